"""The C program for 64-bit ARM, where a cross compiler is installed; run by an emulator."""

import os
import shutil
import subprocess

import pytest
import torch

import ftwt
from ftwt.runtime import native, skip
from tests.export.damage import WARN
from tests.export.networks import gated

COMPILERS = {
    "aarch64-linux-gnu-gcc": ("aarch64-linux-gnu-gcc", "-static"),
    "zig": ("zig", "cc", "-target", "aarch64-linux-musl", "-static"),
}
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
compiler = next((words for name, words in COMPILERS.items() if shutil.which(name)), None)
emulator = next((name for name in EMULATORS if shutil.which(name)), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler is None, reason=f"none of {', '.join(COMPILERS)} is installed"),
    pytest.mark.skipif(not native.available(), reason="the library is not built"),
]


def test_the_example_answers_as_here(tmp_path):
    model = gated()
    card = ftwt.Card(None, 5, tuple("abcde"), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    ftwt.export(model, tmp_path / "out", format="native", card=card)
    sources = tmp_path / "out" / "libftwt"
    assert compiler is not None
    command = [*compiler, "-std=gnu11", "-O1", "-fno-math-errno", *WARN, f"-I{sources}"]
    files = [tmp_path / "out" / "example.c", *sorted(sources.glob("*.c"))]
    program = tmp_path / "example"
    subprocess.run([*command, *map(str, files), "-lm", "-o", str(program)], check=True)
    if emulator is None:
        pytest.skip(f"it compiles; none of {', '.join(EMULATORS)} is there to run it")
    pixels = torch.randint(256, (8, 8, 3), generator=torch.Generator().manual_seed(3)).byte()
    picture = tmp_path / "image.ppm"
    picture.write_bytes(b"P6\n8 8\n255\n" + pixels.numpy().tobytes())
    batch = (pixels / 255).permute(2, 0, 1)[None].contiguous()
    done = subprocess.run(
        [emulator, str(program), str(tmp_path / "out" / "model.ftwt"), str(picture)],
        capture_output=True, text=True, check=True, env={**os.environ, "FTWT_NATIVE_SET": ""},
    )  # fmt: skip
    macs = skip(model).audit(batch).macs.item()
    expected = f"class {skip(model)(batch).argmax().item()}, {macs} MACs of {model.dense_macs}"
    assert done.stdout.strip() == expected
