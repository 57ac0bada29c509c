"""The C runtime, compiled with what a test needs."""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from ftwt.export.native import folder
from ftwt.runtime.native import binding
from tests.export import damage


@pytest.fixture(scope="session")
def harness(tmp_path_factory):
    """Runs the sanitized harness: its lines. A leak or a wrong access is a failure."""
    if shutil.which(damage.COMPILER) is None:
        pytest.skip("there is no C compiler")
    return partial(damage.said, damage.harness(tmp_path_factory.mktemp("harness")))


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """The example, linked with the library of this installation: its line, or what went wrong."""
    if shutil.which(damage.COMPILER) is None:
        pytest.skip("there is no C compiler")
    out = tmp_path_factory.mktemp("example") / "example"
    library = Path(os.environ.get(binding.FOLDER) or Path(binding.__file__).parent)
    source = Path(folder.__file__).parent / "example.c"
    headers = Path(binding.__file__).parent / "src"
    linked = (library / binding.NAME, f"-Wl,-rpath,{library}")
    damage.compiled(out, *damage.WARN, f"-I{headers}", source, *linked)

    def run(*arguments, before=(), **environment):
        command = [*map(str, (*before, out, *arguments))]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
        )
        assert done.returncode in (0, 1), done.stderr
        return (done.stderr if done.returncode else done.stdout).strip()

    return run
