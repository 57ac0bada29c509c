"""Wheels with the native library and without, and sdists, each installed apart."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SKIP = """
import torch, ftwt
from ftwt import runtime
from ftwt.runtime import native
from ftwt.reports.timing import bench
network = ftwt.backbones.resnet8()
model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32)).eval()
images = torch.randn(2, 3, 32, 32)
with torch.no_grad():
    assert torch.allclose(runtime.skip(model)(images), model(images), atol=1e-4)
print(ftwt.__file__, native.available(), bench(network, model, images, rounds=1)["missing"])
"""


def copied(target: Path) -> Path:
    """What lies in the repository that is needed to build."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    target.mkdir()
    for folder in ("ftwt", "cli"):
        shutil.copytree(ROOT / folder, target / folder, ignore=ignored)
    for name in ("LICENSE", "README.md", "MANIFEST.in", "pyproject.toml", "setup.py"):
        shutil.copyfile(ROOT / name, target / name)
    return target


def sdist(source: Path, out: Path, environment: dict[str, str] | None = None) -> Path:
    build = [sys.executable, "setup.py", "-q", "sdist", "-d", out]
    subprocess.run(build, cwd=source, env=environment, check=True, capture_output=True)
    (made,) = out.glob("*.tar.gz")
    return made


def test_an_sdist_holds_all_that_is_needed(tmp_path):
    made = sdist(copied(tmp_path / "source"), tmp_path)
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        str(one.relative_to(ROOT))
        for one in (ROOT / "ftwt").rglob("*.*")
        if one.is_file() and one.suffix not in (".so", ".pyc")
    }
    assert wanted | {"LICENSE", "README.md", "setup.py", "pyproject.toml", "cli/app.py"} <= names


@pytest.mark.slow
@pytest.mark.parametrize(("form", "compiler"), [("wheel", True), ("wheel", False), ("sdist", True)])
def test_what_is_released_installs_and_skips(tmp_path, form, compiler):
    if compiler and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    source, target = copied(tmp_path / "source"), tmp_path / "target"
    without = {} if compiler else {"CC": "false"}
    environment = {**os.environ, **without, "PYTHONPATH": str(target)}
    if form == "wheel":
        setup = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", tmp_path]
        subprocess.run(setup, cwd=source, env=environment, check=True)
        (made,) = tmp_path.glob("*.whl")
        assert "-py3-none-" in made.name
    else:
        made = sdist(source, tmp_path, environment)
    # Into a folder of its own, which comes before what is installed here.
    options = ["-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", target]
    install = [sys.executable, "-m", "pip", "install", *options, made]
    subprocess.run(install, cwd=tmp_path, env=environment, check=True)
    run = [sys.executable, "-c", SKIP]
    done = subprocess.run(
        run, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    where, available, missing = done.stdout.split(maxsplit=2)
    assert Path(where).is_relative_to(target)
    assert available == str(compiler)
    assert ("there are no native kernels" in missing) == (not compiler)
