"""Runs that are killed or stopped go on to the same weights: real processes, real signals."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ftwt.io import storage
from tests.command_line import make_folder, make_weights

RECIPE = "shapes-resnet8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("images"), images=160)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def arguments(folder, weights):
    return [
        "train", RECIPE, "--data", f"imagefolder:{folder}", "--init", weights, "--epochs", 5,
        "--accumulate", 8, "--ema", 0.9, "--clip-norm", 1, "--checkpoint-every", 1,
        "--threads", 1,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def through(arguments, tmp_path_factory):
    """A run that nothing stopped."""
    out = tmp_path_factory.mktemp("runs") / "through"
    go_through([*arguments, "--out", out])
    return out


def start(arguments) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ftwt_cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def go_through(arguments) -> str:
    process = start(arguments)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return said


def position(out: Path) -> tuple[int, int]:
    """Epoch and batch of the newest state on disk."""
    try:
        kept = torch.load(out / "resume.pt", weights_only=True)
    except FileNotFoundError:
        return (-1, 0)
    return kept["epoch"], kept["batch"]


def wait_for(out: Path, process: subprocess.Popen[str], *, beyond: tuple[int, int]) -> None:
    while process.poll() is None and position(out) <= beyond:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def same_weights(one: Path, two: Path) -> bool:
    first, second = (storage.read_tensors(run / "model.safetensors")[0] for run in (one, two))
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def rows(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["images_per_second"]
    return lines


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_and_stopped_at_random_moments_it_ends_with_the_same_weights(
    arguments, through, tmp_path, kills
):
    """SIGKILL to the real process again and again, then SIGTERM, each time further than before."""
    out, moments = tmp_path / "killed", random.Random(7)
    reached, more = (-1, 0), []
    for _ in range(kills):
        process = start([*arguments, "--out", out, *more])
        wait_for(out, process, beyond=reached)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        reached, more = position(out), ["--resume"]
    process = start([*arguments, "--out", out, "--resume"])
    wait_for(out, process, beyond=reached)
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    line = said.strip().splitlines()[-1]
    assert "stopped by SIGTERM" in line
    assert "--resume" in line
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    go_through([*arguments, "--out", out, "--resume"])
    assert same_weights(out, through)
    assert rows(out) == rows(through)
    assert {path.name for path in out.iterdir()} == {path.name for path in through.iterdir()}
    assert json.loads((out / "run.json").read_text())["status"] == "finished"
