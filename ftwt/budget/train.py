"""Training for a budget: the mass from an oracle before, the thresholds from validation after."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ftwt.budget.calibrate import calibrate
from ftwt.budget.named import validation
from ftwt.budget.solve import solve
from ftwt.data import Dataset, Loaders
from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.io import specs, storage
from ftwt.training.distributed import on_main
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import Loader, check_gated
from ftwt.training.loop import BeforePhase
from ftwt.training.phases import Phase
from ftwt.training.preparation import prepare
from ftwt.training.recipes import Recipe
from ftwt.training.records import read_record, write_record
from ftwt.training.state import TrainingState
from ftwt.training.tasks import Task

# Validation images that the mass is solved on; thresholds are calibrated on all of them.
_IMAGES = 1000

Train = Callable[[Recipe], tuple[nn.Module, dict[str, Any]]]


def train_to(
    recipe: Recipe,
    dataset: Dataset | Loaders,
    out: Path,
    *,
    reduction: float,
    init: Path | str | None,
    train: Callable[[Recipe, BeforePhase], tuple[nn.Module, dict[str, Any]]],
    per_layer: bool = False,
) -> tuple[Gated, dict[str, Any]]:
    """Train a gated recipe for a budget instead of a mass.

    The mass is solved under an oracle on the starting weights. Training moves activations, so
    where gates are frozen their thresholds are calibrated on validation images until the budget is
    met, and the backbone learns with these masks; at the end this is done again, on all of them.

    Args:
        recipe: a gated recipe; the mass of its target is replaced.
        dataset: its validation split is used, and no test image.
        out: the run folder that `train` makes; its model and `run.json` get the outcome.
        reduction: share of the plain network's MACs to save, exact, gates counted.
        init: the weights that the training starts from.
        train: trains a recipe into `out` and calls the second argument before each phase, such as
            `train_run` with its other arguments given. It is not called for a folder whose training
            has finished, but not its calibration.
        per_layer: a mass for each site, as in `ftwt.solve`.

    Raises:
        FtwtError: the recipe is dense, there are no weights to start from, or the budget is out
            of reach.
    """
    if recipe.pruning is None:
        raise FtwtError("train: --reduction is for gated training; leave out --dense")
    if init is None:
        raise FtwtError(
            "train: --reduction looks for the mass on trained weights; give the dense run as --init"
        )
    task, images = recipe.task, validation(dataset, limit=_IMAGES)
    start = prepare(recipe, dataset, init=init).model
    check_gated(start, "train: --reduction")
    assert isinstance(start, Gated)
    # Weights adapt to masks, so what the plain network's features say comes nearer to the trained
    # outcome than what they become when masks are applied to weights that do not know them.
    solution = solve(
        start, images, reduction=reduction, per_layer=per_layer, sequential=False, task=task
    )
    made = replace(recipe, pruning=solution.pruning)

    def at_the_budget(chosen: Recipe) -> tuple[nn.Module, dict[str, Any]]:
        return train(chosen, partial(_frozen_at, reduction, images, task))

    model, record = trained_or_finished(made, out, at_the_budget, outcome="budget", called="train")
    held = validation(dataset)
    trained = evaluate(model, held, task=task)
    model = calibrate(model, held, reductions=[reduction], task=task)
    point = asdict(model.operating_points[0])
    record["budget"] = solution.to_json() | {
        "trained": {
            "accuracy": trained.metrics[task.score],
            "reduction": trained.reduction_exact,
        },
        "calibrated": {name: point[name] for name in ("accuracy", "measured", "thresholds")},
    }
    finished = model

    def write() -> None:
        storage.save(finished, out / "model.safetensors", storage.load(out)[1])
        write_record(out, record)

    on_main(write)
    return finished, record


def _frozen_at(
    reduction: float, images: Loader, task: Task, phase: Phase, state: TrainingState
) -> None:
    """Gates that are frozen from here on answer as they will in the end."""
    if state.epoch == 0 or phase.trains("gates"):
        return
    model = state.validated
    assert isinstance(model, Gated)
    found = on_main(lambda: calibrate(model, images, reductions=[reduction], task=task).thresholds)
    state.move_thresholds(found)


def trained_or_finished(
    recipe: Recipe, out: Path, train: Train, *, outcome: str, called: str
) -> tuple[Gated, dict[str, Any]]:
    """Train a gated recipe into `out`, unless that was done and only its calibration is missing.

    Raises:
        FtwtError: what was trained there has other options.
    """
    if not waits_for_calibration(out, outcome):
        model, record = train(recipe)
    else:
        model, record = storage.load(out)[0], read_record(out, called)
        if specs.renewed(record["specification"]) != specs.recorded(recipe):
            raise FtwtError(
                f"{called}: {out} holds a finished training with other options; give the same as "
                "for that run, or a new folder"
            )
    assert isinstance(model, Gated)
    return model, record


def waits_for_calibration(out: Path, outcome: str = "budget") -> bool:
    """Whether a folder holds a finished training whose record lacks its calibration's outcome."""
    file = out / "run.json"
    if not file.is_file():
        return False
    record = read_record(out)
    return record["status"] == "finished" and outcome not in record
