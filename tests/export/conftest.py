"""The C runtime, compiled with what a test needs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ftwt.export.native import folder
from ftwt.runtime.native import binding

HERE = Path(__file__).parent
# Kernels without optimisation, as compiling takes longer than all files that they run.
SANITIZED = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
WARN = ("-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-warning-option")


def compiled(out, *arguments, compiler="cc"):
    command = [compiler, "-std=gnu11", "-fno-math-errno", *map(str, arguments), "-o", str(out)]
    subprocess.run([*command, "-lm", "-ldl"], check=True, capture_output=True, text=True)
    return out


@pytest.fixture(scope="session")
def harness(tmp_path_factory):
    """Runs the sanitized harness: its lines. A leak or a wrong access is a failure."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    folder_ = tmp_path_factory.mktemp("harness")
    folder.copy_sources(folder_)
    sources = sorted((folder_ / folder.LIBRARY).glob("*.c"))
    options = (*SANITIZED, *WARN, "-DFTWT_PORTABLE", f"-I{folder_ / folder.LIBRARY}")
    program = compiled(folder_ / "harness", *options, HERE / "harness.c", *sources)

    def run(*arguments):
        done = subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
        return done.stdout.splitlines()

    return run


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """The example, linked with the library of this installation: its line, or what went wrong."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    out = tmp_path_factory.mktemp("example") / "example"
    library = Path(os.environ.get(binding.FOLDER) or Path(binding.__file__).parent)
    source = Path(folder.__file__).parent / "example.c"
    headers = Path(binding.__file__).parent / "src"
    compiled(out, *WARN, f"-I{headers}", source, library / binding.NAME, f"-Wl,-rpath,{library}")

    def run(*arguments, before=(), **environment):
        command = [*map(str, (*before, out, *arguments))]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
        )
        assert done.returncode in (0, 1), done.stderr
        return (done.stderr if done.returncode else done.stdout).strip()

    return run
