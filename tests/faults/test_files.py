"""A damaged or crafted file of any kind is refused in one line, or read to something sound."""

import random

import pytest
import safetensors.torch
import torch

import ftwt
from ftwt.io.reading import misfit, read_json
from tests.faults.kinds import KINDS, gated, saved
from tests.faults.mutations import damaged
from tests.faults.trial import counts
from tests.small import refused


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damage_is_refused_or_does_no_harm(kind, tmp_path):
    found, broken = counts(kind, tmp_path, 12)
    assert not broken
    assert found["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_much_damage_is_refused_or_does_no_harm(kind, tmp_path):
    assert not counts(kind, tmp_path, 200, seed=1)[1]


def test_a_model_that_a_disk_changed_is_never_loaded(tmp_path):
    """Wherever a bit is turned: in a weight, too."""
    file = saved(gated(), tmp_path)
    content = file.read_bytes()
    for at in range(8, len(content), len(content) // 40):
        file.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        refused(r"load: .*model\.safetensors", ftwt.load, file)


def test_a_file_of_before_there_were_sums_is_loaded(tmp_path):
    model = gated()
    file = saved(model, tmp_path)
    weights, metadata = ftwt.io.storage.read_tensors(file)
    safetensors.torch.save_file(weights, file, metadata={"ftwt": metadata["ftwt"]})
    image = torch.ones(1, 3, 16, 16)
    assert torch.equal(ftwt.load(file)[0](image), model(image))


@ftwt.register
def never(**fields):
    raise AssertionError("a file had a function called")


@pytest.mark.parametrize("name", ["tests.faults.test_files:never", "os:system", "Gate.build"])
def test_names_in_a_file_call_nothing(name):
    refused(r"from_json: |load: ", ftwt.io.specs.from_json, {"type": name, "command": "true"})


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        ({"a": [1, "2"]}, dict[str, list[int]], "a[1] is '2', expected int"),
        (True, int, "it is True, expected int"),
        (float("nan"), float, "it is nan, expected float"),
        ("b", str | None, None),
        ([1, 2.5], tuple[int, float], None),
        ([1], tuple[int, float], "it has 1 items, expected 2"),
        (10**400, float, "it is a huge number, expected float"),
    ],
)
def test_misfits_are_told_by_their_place(value, kind, told):
    assert misfit(value, kind) == told


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", "NaN", '{"a": 1e999}', "", "[]"]
)
def test_json_that_is_none_is_told_in_one_line(text, tmp_path):
    file = tmp_path / "record.json"
    file.write_text(text)
    with pytest.raises(ftwt.FtwtError, match=r"^test: .*record\.json is damaged \(.*\); mend it$"):
        read_json(file, called="test", mend="mend it")


def test_the_command_line_tells_damage_in_one_line(ftwt_command, tmp_path):
    file = saved(gated(), tmp_path)
    content, draw = file.read_bytes(), random.Random(3)
    for _ in range(6):
        file.write_bytes(damaged(content, draw))
        answer = ftwt_command("eval", file, "--data", "shapes", "--limit", "4")
        assert answer.status == 2
        assert answer.err.count("\n") == 1
        assert answer.err.startswith("ftwt: load: ")
        assert not answer.out
