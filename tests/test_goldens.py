"""The first steps of recipes through the real command line, against committed numbers.

`python -m tests.test_goldens` writes the numbers again, after a change that is meant to move them.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

GOLDENS = Path(__file__).parent / "goldens.json"
COMMANDS = {
    "dense": ["--dense"],
    "decoupled": ["--mass", "0.8"],
    "joint": ["--mass", "0.8", "--coupling", "joint"],
}


def losses_of(mode: str, folder: Path) -> dict[str, float | str]:
    """Losses of the only epoch, and the validation's MACs."""
    from ftwt_cli.app import main

    out = folder / mode
    arguments = ["train", "cifar10-resnet8", "--data", "shapes", "--limit", "300", "--epochs", "1"]
    sys.argv = ["ftwt", *arguments, "--threads", "1", "--out", str(out), *COMMANDS[mode]]
    # A command that failed leaves no metrics to read.
    with contextlib.suppress(SystemExit):
        main()
    row = json.loads((out / "metrics.jsonl").read_text())
    return {"phase": row["phase"], **row["losses"], "macs": row["validation"]["macs"]}


def coupling_moves(folder: Path) -> float:
    """How far apart joint and decoupled training end, as a share of how far one of them went.

    Of the backbone's weights: their losses are alike, as the first steps' masks and images are.
    """
    joint, decoupled, dense = (
        {
            name: value
            for name, value in safetensors.torch.load_file(
                folder / mode / "model.safetensors"
            ).items()
            if not name.startswith("gates.") and name.endswith("weight")
        }
        for mode in ("joint", "decoupled", "dense")
    )
    apart = sum((joint[name] - decoupled[name]).square().sum() for name in joint)
    went = sum((dense[name] - decoupled[name]).square().sum() for name in joint)
    return float((apart / went).sqrt())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The losses of each command, and the folder that they trained in."""
    folder, argv = tmp_path_factory.mktemp("goldens"), sys.argv
    try:
        return {mode: losses_of(mode, folder) for mode in COMMANDS}, folder
    finally:
        sys.argv = argv


@pytest.mark.parametrize("mode", COMMANDS)
def test_first_epoch(mode, trained):
    golden, found = json.loads(GOLDENS.read_text())[mode], trained[0][mode]
    assert set(found) == set(golden)
    # Two steps of training: processors round differently, and that is all that may differ.
    numbers = {name: value for name, value in golden.items() if name != "phase"}
    assert {name: found[name] for name in numbers} == pytest.approx(numbers, rel=2e-3)
    assert found["phase"] == golden["phase"]


def test_the_coupling_reaches_the_model(trained):
    """Were the option lost on its way, both trainings would end with the same weights."""
    golden = json.loads(GOLDENS.read_text())["coupling"]["moves"]
    assert golden > 1e-3
    assert coupling_moves(trained[1]) == pytest.approx(golden, rel=0.1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        values = {mode: losses_of(mode, Path(name)) for mode in COMMANDS}
        values["coupling"] = {"moves": coupling_moves(Path(name))}
    GOLDENS.write_text(json.dumps(values, indent=2) + "\n")
