"""Wheels with the native library and without, each installed apart."""

import os
import shutil
import subprocess
import sys
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


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False])
def test_wheel_skips(tmp_path, compiler):
    if compiler and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    source, target = tmp_path / "source", tmp_path / "target"
    ignored = shutil.ignore_patterns(".*", "build", "*.so", "*.egg-info", "records", "data")
    shutil.copytree(ROOT, source, ignore=ignored)
    without = {} if compiler else {"CC": "false"}
    environment = {**os.environ, **without, "PYTHONPATH": str(target)}
    setup = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", tmp_path]
    subprocess.run(setup, cwd=source, env=environment, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "-py3-none-" in wheel.name
    options = ["-q", "--no-deps", "--no-index", "--target", target]
    install = [sys.executable, "-m", "pip", "install", *options, wheel]
    subprocess.run(install, cwd=tmp_path, env=environment, check=True)
    run = [sys.executable, "-c", SKIP]
    done = subprocess.run(
        run, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    where, available, missing = done.stdout.split(maxsplit=2)
    assert Path(where).is_relative_to(target)
    assert available == str(compiler)
    assert ("there are no native kernels" in missing) == (not compiler)
