"""The first steps of recipes through the real command line, against committed numbers.

`python -m tests.test_goldens` writes the numbers again, after a change that is meant to move them.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("mode", COMMANDS)
def test_first_epoch(mode, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    golden = json.loads(GOLDENS.read_text())[mode]
    found = losses_of(mode, tmp_path)
    assert set(found) == set(golden)
    # Two steps of training: processors round differently, and that is all that may differ.
    numbers = {name: value for name, value in golden.items() if name != "phase"}
    assert {name: found[name] for name in numbers} == pytest.approx(numbers, rel=2e-3)
    assert found["phase"] == golden["phase"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        values = {mode: losses_of(mode, Path(name)) for mode in COMMANDS}
    GOLDENS.write_text(json.dumps(values, indent=2) + "\n")
