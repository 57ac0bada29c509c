"""Processes that are killed at random moments: what they leave goes on to the same end."""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import ftwt
from ftwt.budget.sweep import _plain, run_sweep
from ftwt.reports.analysis.slimming import slim_run
from ftwt.training.folders import status
from ftwt.training.runs import train_run
from tests.faults.kinds import (
    IMAGES,
    MASS,
    RECIPE,
    SWEEP,
    dataset,
    gated_file,
    page_again,
    report_folder,
    sweep_folder,
)


@dataclass(frozen=True)
class Work:
    """What a process does in a folder, from a beginning; `go` also goes on after a kill.

    `result` is what has to be the same however often it was killed; it can be compared.
    """

    name: str
    begin: Callable[[Path], Any]
    go: Callable[[Path], Any]
    result: Callable[[Path], Any]


def _train(folder: Path) -> None:
    run = folder / "run"
    if not (run / "run.json").is_file() or status(run) != "finished":
        train_run(RECIPE, dataset(), run, resume=run.is_dir())


def _trained(folder: Path) -> list[Any]:
    model, _ = ftwt.load(folder / "run")
    return [value.tolist() for value in model.state_dict().values()]


def _unswept(folder: Path) -> None:
    (sweep_folder(folder) / "sweep.json").write_text(json.dumps({"sweep": _plain(SWEEP)}))


def _images(folder: Path) -> None:
    gated_file(folder)
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (folder / "images" / place).mkdir(parents=True)
        Image.new("RGB", (16, 16), len(place)).save(folder / "images" / place / "one.png")


def _slim(folder: Path) -> None:
    if not (folder / "slim").exists():
        slim_run(folder / "model.safetensors", f"imagefolder:{folder / 'images'}", folder / "slim")


def _slimmed(folder: Path) -> list[Any]:
    names = sorted(path.name for path in (folder / "slim").iterdir())
    with torch.no_grad():
        return [names, ftwt.load(folder / "slim")[0](IMAGES).tolist()]


WORKS = (
    Work("ftwt train", lambda folder: None, _train, _trained),
    Work(
        "ftwt sweep",
        _unswept,
        lambda folder: run_sweep(SWEEP, folder / "sweep", [MASS], seeds=2),
        lambda folder: (folder / "sweep" / "sweep.json").read_text(),
    ),
    Work(
        "ftwt paper",
        report_folder,
        lambda folder: page_again(folder / "table1.json"),
        lambda folder: (folder / "index.html").read_text(),
    ),
    Work("ftwt slim", _images, _slim, _slimmed),
)


def killed(work: Work, folder: Path, kills: int, seed: int = 0) -> Counter[str]:
    """What came of `kills` kills, each after a random part of the time that the work takes.

    Counts "killed" (others came too late), and "same" or "other" for each end that followed up to
    three of them.
    """
    draw = random.Random(f"{work.name} {seed}")
    whole = folder / "whole"
    whole.mkdir()
    work.begin(whole)
    started = time.monotonic()
    _in_a_child(work, whole)
    seconds, wanted = time.monotonic() - started, work.result(whole)
    found: Counter[str] = Counter()
    for first in range(0, kills, 3):
        place = folder / f"{first}"
        place.mkdir()
        work.begin(place)
        for _ in range(min(3, kills - first)):
            found["killed"] += _in_a_child(work, place, draw.uniform(0, seconds))
        _in_a_child(work, place)
        found["same" if work.result(place) == wanted else "other"] += 1
    return found


def _in_a_child(work: Work, folder: Path, seconds: float | None = None) -> bool:
    """Work in a process of its own; whether it was killed after `seconds`."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        ended = 1
        try:
            work.go(folder)
            ended = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Nothing of the parent's own must run on in the child.
            os._exit(ended)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, how = os.waitpid(child, 0)
    if os.WIFSIGNALED(how):
        return True
    assert os.waitstatus_to_exitcode(how) == 0, f"{work.name} failed in {folder}"
    return False
