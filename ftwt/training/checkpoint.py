"""The state of a training on disk, and going on from it exactly.

resume.pt            the newest state
resume.previous.pt   the one before, for when the newest is damaged
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from ftwt.errors import FtwtError, in_one_line, listed
from ftwt.io import specs
from ftwt.io.files import write_atomically
from ftwt.io.reading import Anything, misfit, parsed
from ftwt.training.distributed import gathered, on_main, world
from ftwt.training.metrics import Metrics
from ftwt.training.state import TrainingState

NEWEST, PREVIOUS = "resume.pt", "resume.previous.pt"
_FORMAT = 4
_NUMBERS = ("epoch", "batch", "step", "best_score", "best_epoch", "seconds")


class _Metrics(TypedDict):
    """As `Metrics`."""

    sums: dict[str, Tensor]
    batches: int
    images: int
    seconds: float


class _Kept(TypedDict):
    """What a file holds."""

    format: int
    torch: str
    about: str
    model: dict[str, Any]
    thresholds: dict[str, float] | None
    optimizers: dict[str, dict[str, Any]]
    schedulers: dict[str, dict[str, Any]]
    scaler: dict[str, Any]
    average: dict[str, Any] | None
    best_weights: dict[str, Tensor]
    generators: list[dict[str, Tensor]]
    metrics: _Metrics
    epoch: int
    batch: int
    step: int
    best_score: float | None
    best_epoch: int
    seconds: float


def save_checkpoint(out: Path, state: TrainingState, about: dict[str, Any]) -> None:
    """Write the state; called by all processes, written by the main one.

    The newest state becomes the previous one only when the new one is wholly on disk.

    Args:
        out: the run folder.
        state: what to keep.
        about: what a run that goes on from it has to share with this one, in JSON values.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    generators = gathered(_generators())
    if not world().main:
        return
    metrics = state.metrics
    kept = {
        "format": _FORMAT,
        "torch": str(torch.__version__),
        "about": json.dumps(about),
        "model": state.model.state_dict(),
        "thresholds": state.thresholds,
        "optimizers": {name: one.state_dict() for name, one in state.optimizers.items()},
        "schedulers": {name: one.state_dict() for name, one in state.schedulers.items()},
        "scaler": state.scaler.state_dict(),
        "average": state.average.state_dict() if state.average is not None else None,
        "best_weights": state.best_weights,
        "generators": generators,
        "metrics": vars(metrics),
        **{name: getattr(state, name) for name in _NUMBERS},
    }
    buffer = io.BytesIO()
    torch.save(kept, buffer)
    following = out / f".{NEWEST}.partial"
    write_atomically(following, buffer.getbuffer())
    if (out / NEWEST).is_file():
        (out / NEWEST).replace(out / PREVIOUS)
    following.replace(out / NEWEST)


def exists(out: Path) -> bool:
    """Whether a state was ever saved."""
    return any((out / name).is_file() for name in (NEWEST, PREVIOUS))


def restore(
    out: Path, state: TrainingState, about: dict[str, Any], note: Callable[[str], None]
) -> None:
    """Put the newest whole state into `state`.

    Args:
        out: the run folder.
        state: a new state of the same recipe.
        about: as it was given to `save`; the state has to be of a run with the same.
        note: is told where the newest state was damaged, and another one taken.

    Raises:
        FtwtError: no state is whole, or it is of another recipe, data, version or number of
            processes.
    """
    kept = on_main(lambda: _read(out, note))
    check_same(out, kept["about"], about)
    if kept["torch"] != str(torch.__version__):
        note(
            f"the state was saved with torch {kept['torch']}, this is {torch.__version__}: numbers "
            "may differ from those of a run that was never stopped"
        )
    try:
        _put(state, kept)
    except FtwtError:
        raise
    except Exception as error:
        # torch raises many types for states that do not fit.
        raise FtwtError(
            f"train: the state in {out} does not fit its run ({in_one_line(error)}); start again "
            "in a new folder"
        ) from error


def _put(state: TrainingState, kept: dict[str, Any]) -> None:
    """Put what was kept into the parts of a new state."""
    state.model.load_state_dict(kept["model"])
    if kept["thresholds"] is not None:
        state.move_thresholds(kept["thresholds"])
    for part, optimizer in state.optimizers.items():
        optimizer.load_state_dict(kept["optimizers"][part])
        _check_optimizer(optimizer)
        state.schedulers[part].load_state_dict(kept["schedulers"][part])
    state.scaler.load_state_dict(kept["scaler"])
    if state.average is not None:
        state.average.load_state_dict(kept["average"])
    device = next(state.model.parameters()).device
    state.metrics = Metrics(**kept["metrics"])
    state.metrics.sums = {name: one.to(device) for name, one in state.metrics.sums.items()}
    if any(one.shape for one in state.metrics.sums.values()):
        raise ValueError("an epoch's sums are no numbers")
    own = {name: one.shape for name, one in state.validated.state_dict().items()}
    if {name: one.shape for name, one in kept["best_weights"].items()} not in ({}, own):
        raise ValueError("the best weights are of another network")
    state.best_weights = kept["best_weights"]
    for name in _NUMBERS:
        setattr(state, name, kept[name])
    _set_generators(kept["generators"][world().rank])


def _check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError where what is kept of a weight is none of it; torch looks at nothing."""
    for group in optimizer.param_groups:
        if not all(type(group[name]) is type(one) for name, one in optimizer.defaults.items()):
            raise ValueError("an optimizer's settings are of other types")
    for weight, kept in optimizer.state.items():
        for name, one in kept.items():
            number = isinstance(one, (int, float)) or one is None
            if not number and not (isinstance(one, Tensor) and one.shape in (weight.shape, ())):
                raise ValueError(f"an optimizer's {name} is of another weight")


def remove(out: Path) -> None:
    """Remove the states of a finished run."""
    for name in (NEWEST, PREVIOUS):
        (out / name).unlink(missing_ok=True)


def differences(was: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, leaf by leaf: "settings.seed was 0, is 1"."""
    if isinstance(was, dict) and isinstance(now, dict):
        found = []
        for key in (*was, *(key for key in now if key not in was)):
            found += differences(was.get(key), now.get(key), f"{name}.{key}" if name else key)
        return found
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = enumerate(zip(was, now, strict=True))
        return [text for i, pair in pairs for text in differences(*pair, f"{name}[{i}]")]
    return [] if was == now else [f"{name} was {_short(was)}, is {_short(now)}"]


def _read(out: Path, note: Callable[[str], None]) -> dict[str, Any]:
    damaged: list[str] = []
    for path in (out / NEWEST, out / PREVIOUS):
        if not path.is_file():
            continue
        try:
            kept = _load(path)
        except FtwtError:
            raise
        except Exception as error:
            # torch raises many types for a damaged file.
            damaged.append(f"{path.name} ({type(error).__name__})")
            continue
        if damaged:
            note(
                f"{damaged[0]} in {out} is damaged; going on from {path.name}, the state before "
                f"it: epoch {kept['epoch'] + 1} after batch {kept['batch']}"
            )
        return kept
    raise FtwtError(
        f"train: no whole state to go on from in {out}, {' and '.join(damaged)} cannot be read; "
        "start again in a new folder"
    )


def _load(path: Path) -> dict[str, Any]:
    # torch checks no sums when it reads.
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        if broken is not None:
            raise ValueError(broken)
    kept = torch.load(path, weights_only=True, map_location="cpu")
    found = kept.get("format") if isinstance(kept, dict) else None
    if found != _FORMAT:
        raise FtwtError(
            f"train: {path} was written by another version of ftwt (format {found}, this one reads "
            f"{_FORMAT}); go on with that version, or start again in a new folder"
        )
    # What earlier states call them.
    if "tally" in kept:
        kept["metrics"] = kept.pop("tally")
    wrong = misfit(kept, _Kept)
    if wrong is not None:
        raise ValueError(wrong)
    counted = (*(kept[name] for name in ("epoch", "batch", "step")), kept["metrics"]["batches"])
    if min(counted) < 0 or kept["metrics"]["images"] < kept["metrics"]["batches"]:
        raise ValueError("its counts are of no training")
    mend = "start again in a new folder"
    about = parsed(kept["about"], Anything, source=f"train: {path}", mend=mend, finite=False)
    return {**kept, "about": about}


def check_same(out: Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise FtwtError, with what differs, unless a folder was started as is asked for now."""
    found = differences(specs.renewed(was), json.loads(json.dumps(now)))
    if found:
        raise FtwtError(
            f"train: {out} was started differently: {listed(found, 4, '; ')}; resume it as it was "
            "started, or give a new folder"
        )


def _generators() -> dict[str, Any]:
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    return own


def _set_generators(own: dict[str, Any]) -> None:
    torch.set_rng_state(own["cpu"])
    if "cuda" in own and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["cuda"])


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
