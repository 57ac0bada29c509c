"""Training one model for several budgets, from one that was trained for a single one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ftwt import losses
from ftwt.budget.calibrate import calibrate
from ftwt.budget.named import validation
from ftwt.budget.train import Train, trained_or_finished
from ftwt.data import Dataset
from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.gated.operating_points import OperatingPoint
from ftwt.io import storage
from ftwt.io.files import write_atomically
from ftwt.training.distributed import on_main
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import check_classes
from ftwt.training.optimizers import OneCycle, Sgd
from ftwt.training.phases import Phase
from ftwt.training.recipes import Recipe
from ftwt.training.records import write_record
from ftwt.training.settings import Settings

# Validation images that thresholds are found on; accuracies are of the whole split.
_IMAGES = 2000
_DENSE = "dense.safetensors"


def widen(
    run: Path,
    dataset: Dataset,
    out: Path,
    *,
    reductions: Sequence[float],
    train: Train,
    epochs: int = 4,
    lr: float = 0.02,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Gated, dict[str, Any]]:
    """Train the backbone of a gated run for all reductions of a range; its gates stay as they are.

    Moving the thresholds of a model that was trained at one reduction saves more or less MACs, but
    its layers never saw such masks. Here each batch runs at a reduction drawn from the range, its
    ends more often, by thresholds calibrated on the validation split, and learns the labels and,
    where the run keeps it, the dense network that the run started from. Thresholds are calibrated
    again at the end.

    Args:
        run: a finished gated run.
        dataset: its validation split is used, and no test image.
        out: the run folder that `train` makes; its model and `run.json` get the outcome.
        reductions: shares of MACs to save, exact, rising; two at least. `Gated.at` then takes any
            reduction between them.
        train: trains a recipe into `out` from `run`, such as `train_run` with its other arguments
            given. It is not called for a folder whose training has finished, but not its
            calibration.
        epochs: of training.
        lr: the highest learning rate of one cycle.
        seed: of order, augmentation and reductions.
        device: where thresholds are calibrated.

    Raises:
        FtwtError: `run` has no gates, or the reductions do not rise or are out of reach.
    """
    if len(reductions) < 2:
        raise FtwtError(
            "widen: one reduction is no range; give two or more, for example 0.3:0.6:0.1"
        )
    model, card = storage.load(run, device=device)
    if not isinstance(model, Gated) or card.network is None:
        raise FtwtError(f"widen: {run} holds no network with gates; give a run without --dense")
    check_classes(str(run), card, dataset)
    found = validation(dataset, limit=_IMAGES)
    everything = validation(dataset)
    start = calibrate(model, found, reductions=reductions)
    made = _recipe(run, card.network, start, epochs, lr, seed)
    trained, record = trained_or_finished(made, out, train, outcome="budgets", called="widen")
    final = calibrate(trained.to(device), found, reductions=reductions)
    record["budgets"] = [
        {
            "reduction": after.reduction,
            "before": _at(start, before, everything),
            "after": _at(final, after, everything),
        }
        for before, after in zip(start.operating_points, final.operating_points, strict=True)
    ]

    def write() -> None:
        if (run / _DENSE).is_file():
            write_atomically(out / _DENSE, (run / _DENSE).read_bytes())
        storage.save(final, out / "model.safetensors", storage.load(out)[1])
        write_record(out, record)

    on_main(write)
    return final, record


def _recipe(run: Path, network: str, start: Gated, epochs: int, lr: float, seed: int) -> Recipe:
    phase = Phase(
        "several budgets", epochs, train="backbone", operating_points=start.operating_points
    )
    settings = Settings(
        (phase,),
        Sgd(lr, weight_decay=5e-4, schedule=OneCycle()),
        amp="auto",
        channels_last=True,
        seed=seed,
    )
    objective = losses.Objective.of(losses.CrossEntropy())
    if (run / _DENSE).is_file():
        objective += losses.Distillation()
    return Recipe(network, settings, objective, start.pruning)


def _at(model: Gated, point: OperatingPoint, images: Any) -> dict[str, float]:
    seen = evaluate(model.with_thresholds(point.thresholds), images)
    return {"accuracy": seen.accuracy, "reduction_exact": seen.reduction_exact}
