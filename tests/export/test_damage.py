"""Files that are cut off, damaged or made to do harm: a line of text, under sanitizers."""

import ctypes

import pytest

import ftwt
from ftwt.export.native.pack import sealed
from ftwt.runtime import native
from ftwt.runtime.native import structs
from tests.export import damage

pytestmark = pytest.mark.skipif(not native.available(), reason="the library is not built")
MUTATIONS = 400


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bytes of small networks."""
    made = {}
    for name, make in damage.MODELS.items():
        path = tmp_path_factory.mktemp("files") / name
        ftwt.export(make(), path, format="native")
        made[name] = (path / "model.ftwt").read_bytes()
    return made


@pytest.mark.parametrize("name", damage.MODELS)
def test_whole_files_run(files, harness, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(files[name])
    assert harness("files", path) == ["ran"]


def test_a_file_cut_anywhere_is_refused(files, harness, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(files["gated"])
    assert harness("cut", path) == []
    path.write_bytes(files["gated"] + b"\0")
    assert "bytes, but should have" in harness("files", path)[0]


def test_a_changed_bit_is_refused(files, harness, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(files["gated"])
    assert harness("flip", path, 11) == []


def changed(content, **fields):
    """A file whose head says something else, with the right checksum."""
    head = structs.CFile.from_buffer_copy(content)
    for name, value in fields.items():
        setattr(head, name, structs.CShape(*value) if isinstance(value, tuple) else value)
    return sealed(bytes(head) + content[ctypes.sizeof(head) :])


@pytest.mark.parametrize(("fields", "text"), [
    ({"magic": b"PK"}, "no network of ftwt"),
    ({"version": 3}, "has version 3."),
    ({"program": 99}, f"has version 2.99, this libftwt reads 2.{structs.FORMAT}"),
    ({"lanes": 32}, "weights are laid out by 32"),
    ({"order": 0x04030201}, "another order of bytes"),
    ({"size": 1 << 40}, "bytes, but should have"),
    ({"settings": 0}, "head contradicts itself"),
    ({"settings": 65}, "head contradicts itself"),
    ({"setting": 1 << 40}, "a place lies outside"),
    ({"setting": 4}, "a place lies outside"),
    ({"points": 1 << 16}, "a place lies outside"),
    ({"limits": 1}, "head contradicts itself"),
    ({"weight": 0.0}, "head contradicts itself"),
    ({"mirror": 2}, "head contradicts itself"),
    ({"input": (3, 8, 9)}, "steps contradict"),
    ({"input": (1 << 24, 1 << 24, 1 << 24)}, "head contradicts itself"),
    ({"output": (0, 1, 1)}, "head contradicts itself"),
], ids=str)  # fmt: skip
def test_heads_that_lie(files, harness, tmp_path, fields, text):
    path = tmp_path / "file"
    path.write_bytes(changed(files["gated"], **fields))
    (line,) = harness("files", path)
    assert text in line


@pytest.mark.parametrize("place", [0, 1, -1])
def test_offsets_that_nobody_reads_are_none(files, harness, tmp_path, place):
    content = bytearray(files["gated"])
    program = structs.CProgram.from_buffer_copy(
        content, structs.CFile.from_buffer_copy(content).setting
    )
    start = ctypes.cast(program.value, ctypes.c_void_p).value
    values = (structs.CValue * program.values).from_buffer(content, start)
    values[place].offset = (1 << 63) - 1
    path = tmp_path / "file"
    path.write_bytes(sealed(bytes(content)))
    (line,) = harness("files", path)
    assert "steps contradict" in line


def test_no_changed_number_leads_outside(files, harness, tmp_path):
    drawn = damage.crafted(list(files.values()), MUTATIONS, seed=0)
    lines = harness("files", *damage.written(drawn, tmp_path))
    assert len(lines) == MUTATIONS
    refused = [line for line in lines if line != "ran"]
    # Changed weights run, changed structure does not.
    assert MUTATIONS // 10 < len(refused) < MUTATIONS
