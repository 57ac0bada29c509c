"""Native files cut off, damaged or made to do harm, and the sanitized library that reads them."""

import itertools
import os
import random
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import ftwt
from ftwt.export.native import folder
from ftwt.export.native.pack import sealed
from ftwt.runtime.native import structs
from tests.export.networks import escalating, gated, mixed

HERE = Path(__file__).parent
COMPILER = os.environ.get("CC", "cc")
MODELS = {"gated": gated, "escalating": escalating, "mixed": mixed}
WARN = ("-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-warning-option")
# Kernels without optimisation, as compiling takes longer than all files that they run.
_SANITIZED = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Files that one process reads.
_BATCH = 200
# Whole numbers that lead astray.
_NUMBERS = (-1, 0, 1, 2, 7, 255, 1 << 15, 1 << 16, 1 << 24, (1 << 31) - 1, -(1 << 31))


def compiled(out: Path, *arguments: object) -> Path:
    """A program made of C sources, by gcc or clang."""
    command = [COMPILER, "-std=gnu11", "-fno-math-errno", *map(str, arguments), "-o", str(out)]
    subprocess.run([*command, "-lm", "-ldl"], check=True, capture_output=True, text=True)
    return out


def harness(target: Path) -> Path:
    """The library with `harness.c`, under the address, undefined and leak sanitizers."""
    folder.copy_sources(target)
    sources = sorted((target / folder.LIBRARY).glob("*.c"))
    options = (*_SANITIZED, *WARN, "-DFTWT_PORTABLE", f"-I{target / folder.LIBRARY}")
    return compiled(target / "harness", *options, HERE / "harness.c", *sources)


def said(program: Path, *arguments: object) -> list[str]:
    """The harness's lines. A leak or a wrong access is a failure."""
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    return done.stdout.splitlines()


def crafted(files: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Files of which one number or two are others, under a right checksum."""
    draw = random.Random(seed)
    places = [range(structs.FILE_CHECKED, len(content) - 4, 4) for content in files]
    # Weights are most of a file; what they are not are small whole numbers.
    small = [
        [at for at in every if abs(_number(content, at)) < 1 << 16]
        for content, every in zip(files, places, strict=True)
    ]
    for _ in range(count):
        which = draw.randrange(len(files))
        content = bytearray(files[which])
        for _ in range(draw.choice((1, 1, 2))):
            at = draw.choice(draw.choice((places, small))[which])
            old = _number(content, at)
            new = draw.choice((*_NUMBERS, len(content), old + 1, old ^ 1 << draw.randrange(31)))
            content[at : at + 4] = (new & 0xFFFFFFFF).to_bytes(4, "little")
        yield sealed(bytes(content))


def _number(content: bytes | bytearray, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "little", signed=True)


def written(contents: Iterable[bytes], target: Path) -> list[Path]:
    """The files, in a folder."""
    paths = []
    for number, content in enumerate(contents):
        paths.append(target / str(number))
        paths[-1].write_bytes(content)
    return paths


def damaged(target: Path, count: int, seed: int) -> dict[str, dict[str, int]]:
    """How many files were damaged in each way, and how many of them ran all the same.

    Raises:
        AssertionError: the sanitizers found something.
    """
    files = []
    for name, make in MODELS.items():
        ftwt.export(make(), target / name, format="native")
        files.append((target / name / folder.NETWORK).read_bytes())
    program, path = harness(target), target / "file"
    found = {}
    for what, task, *step in (
        ("cut off at every byte", "cut"),
        ("a bit of each byte turned", "flip", 1),
    ):
        ran = 0
        for content in files:
            path.write_bytes(content)
            ran += len(said(program, task, path, *step))
        found[what] = {"files": sum(map(len, files)), "ran": ran}
    lines: list[str] = []
    drawn = crafted(files, count, seed)
    while paths := written(itertools.islice(drawn, _BATCH), target):
        lines += said(program, "files", *paths)
    assert len(lines) == count
    found["numbers changed, under a right checksum"] = {"files": count, "ran": lines.count("ran")}
    return found
