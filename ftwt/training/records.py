"""What a run folder says of its run, beside the weights.

run.json        command, recipe, data, versions, seed, status, hours, result
metrics.jsonl   one line an epoch
"""

import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import torch

from ftwt.errors import FtwtError
from ftwt.io.files import write_atomically, write_json
from ftwt.io.reading import Anything, parsed, read_json
from ftwt.tables import is_share
from ftwt.training.distributed import world
from ftwt.training.evaluation import Evaluation
from ftwt.training.loop import Epoch
from ftwt.training.precision import Amp, resolve
from ftwt.training.state import TrainingState
from ftwt.training.tasks import Task

_PROGRESS = ("epochs", "best_epoch", "last_validation", "hours")
_BEST = "best_validation_"


class Data(TypedDict):
    """Which images a run is of."""

    name: str


class RunRecord(TypedDict):
    """What is read again of a `run.json`, of whichever stage of a training."""

    status: Literal["running", "interrupted", "failed", "finished"]
    recipe: NotRequired[str | None]
    specification: NotRequired[dict[str, Any]]
    seed: NotRequired[int]
    data: NotRequired[Data]
    reduction: NotRequired[float]
    epochs: NotRequired[int]
    best_epoch: NotRequired[int]
    best_validation_accuracy: NotRequired[float | None]
    last_validation: NotRequired[dict[str, float]]
    hours: NotRequired[float]


class TestRecord(TypedDict):
    """What is read again of an `eval.json`; older ones, of classification, lack the metrics."""

    accuracy: float | None
    dense_accuracy: float | None
    reduction_exact: float
    reduction_paper: float
    score: NotRequired[str]
    metrics: NotRequired[dict[str, float]]
    dense_metrics: NotRequired[dict[str, float] | None]


class Tested(NamedTuple):
    """The task's score on test images, that of the dense start, and what was saved; fractions."""

    score: str
    value: float
    dense: float | None
    reduction_exact: float
    reduction_paper: float


def read_record(out: Path, called: str = "train") -> dict[str, Any]:
    """What `run.json` says.

    Raises:
        FtwtError: it is damaged.
    """
    record: Any = read_json(out / "run.json", RunRecord, called=called)
    if record["status"] == "finished" and "specification" not in record:
        raise FtwtError(
            f"{called}: {out / 'run.json'} is damaged (it has no specification); restore it, or "
            "start again in a new folder"
        )
    return dict(record)


def read_test(out: Path, called: str) -> Tested:
    """What `eval.json` says.

    Raises:
        FtwtError: it is damaged.
    """
    mend = "remove it and test the run again with ftwt eval"
    file = out / "eval.json"
    found = read_json(file, TestRecord, called=called, mend=mend)
    score = found.get("score", "accuracy")
    # Older ones, and networks of runs that do not hold their start.
    dense = (found.get("dense_metrics") or {}).get(score, found["dense_accuracy"])
    held = found.get("metrics")
    value = found["accuracy"] if held is None else held.get(score)
    if value is None:
        raise FtwtError(f"{called}: {file} is damaged (it has no {score}); {mend}")
    for one in (value, dense):
        if one is not None and is_share(score) and not 0 <= one <= 1:
            raise FtwtError(f"{called}: {file} is damaged ({score} is {one:g}, no share); {mend}")
    return Tested(score, value, dense, found["reduction_exact"], found["reduction_paper"])


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("ftwt", "torchvision"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def circumstances(device: torch.device | str, amp: Amp | None) -> dict[str, Any]:
    """Command, versions and machine, for `run.json`."""
    return {
        "command": [*_program(Path(sys.argv[0])), *sys.argv[1:]],
        "versions": versions(),
        "device": _device_name(device),
        "precision": resolve(amp, torch.device(device)) or "float32",
        "threads": torch.get_num_threads(),
        "processes": world().size,
    }


def progress(state: TrainingState, validation: Evaluation, task: Task) -> dict[str, Any]:
    """How far a run is, for `run.json`."""
    return {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        f"{_BEST}{task.score}": state.best_score,
        "last_validation": {
            **validation.metrics,
            "reduction_exact": validation.reduction_exact,
            "reduction_paper": validation.reduction_paper,
        },
        "hours": state.seconds / 3600,
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def earlier_progress(out: Path) -> dict[str, Any]:
    """What `run.json` said before the run was stopped."""
    record = read_record(out)
    return {
        name: value for name, value in record.items() if name in _PROGRESS or name.startswith(_BEST)
    }


def write_record(out: Path, record: dict[str, Any]) -> None:
    """Write `run.json`."""
    write_json(out / "run.json", record)


def append_metrics(out: Path, row: Epoch) -> None:
    """Add an epoch's line; one that is run again after an interruption replaces its own."""
    values = row._asdict() | {"validation": row.validation.to_json()}
    file = out / "metrics.jsonl"
    lines = _earlier(file)[: row.epoch] if file.is_file() else []
    lines.append(json.dumps(values))
    write_atomically(file, ("\n".join(lines) + "\n").encode())


def _earlier(file: Path) -> list[str]:
    mend = "move it away: the run goes on without it"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FtwtError(f"train: {file} cannot be read ({type(error).__name__}); {mend}") from None
    for line in lines:
        parsed(line, Anything, source=f"train: {file}", mend=mend, finite=False)
    return lines


def _program(path: Path) -> tuple[str, ...]:
    """How this program was called: by its name, or as a package, with those that it lies in."""
    if path.name == "__main__.py":
        spec = sys.modules["__main__"].__spec__
        return ("python", "-m", path.parent.name if spec is None else spec.parent or spec.name)
    return (path.name,)


def _device_name(device: torch.device | str) -> str:
    kind = torch.device(device)
    if kind.type == "cuda":
        return str(torch.cuda.get_device_name(kind))
    return f"cpu ({os.cpu_count()} cores)"
