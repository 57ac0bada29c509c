"""Training for a budget by escalation: a narrow network, a wider one, and when to ask it."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ftwt.budget import named
from ftwt.budget.calibrate import calibrate
from ftwt.budget.narrow_start import narrow_start
from ftwt.budget.static import group_scores, ranked_masks
from ftwt.data import Dataset
from ftwt.errors import FtwtError
from ftwt.gated.escalation import Escalating, escalate
from ftwt.gated.model import Gated
from ftwt.gates import Fixed
from ftwt.io import specs, storage
from ftwt.io.files import make_folder, write_atomically
from ftwt.macs import dense_macs
from ftwt.training import checkpoint, records, runs
from ftwt.training.distributed import on_main
from ftwt.training.preparation import card_of, prepare
from ftwt.training.recipes import Recipe

# A stage's name, its recipe and what it starts from, to its model and `run.json`.
TrainStage = Callable[[str, Recipe, Path | str], tuple[nn.Module, dict[str, Any]]]


def train_escalated(
    recipe: Recipe,
    dataset: Dataset,
    start: Path,
    *,
    reduction: float,
    init: Path | str | None,
    train: TrainStage,
) -> tuple[Escalating, dict[str, Any]]:
    """Train both networks of an escalation and find the threshold between them.

    The stages "first" and "last" are the start without the filters that matter least, trained as
    the narrow networks that they are; "last" is the start itself where the recipe's escalation
    says so. The threshold is found on validation images.

    Args:
        recipe: one with an `escalation`.
        dataset: training images rank the filters, the validation split sets the threshold; no test
            image is touched.
        start: a folder for the narrow starts, one folder for each stage.
        reduction: share of the whole network's MACs to save on average, exact.
        init: the weights that both start from.
        train: trains a stage, or gives the one that was trained before.

    Returns:
        The escalating network, and what to record: both stages' records and the calibration.

    Raises:
        FtwtError: there are no weights to start from, or the reduction is out of reach.
    """
    init = _start_of(init)
    assert recipe.escalation is not None
    how, stage = recipe.escalation, replace(recipe, escalation=None)
    plain = prepare(stage, dataset, init=init).model.eval()
    example = torch.zeros(1, 3, dataset.image_size, dataset.image_size)
    dense = dense_macs(plain, example)

    def trained(called: str, share: float) -> tuple[nn.Module, dict[str, Any]]:
        if share == 1:
            return train(called, stage, init)

        def choose(whole: Gated) -> Fixed:
            return ranked_masks(whole, group_scores(whole), share * dense)

        card = card_of(recipe, dataset, {})
        begun = narrow_start(start / called, plain, choose, example=example, card=card)
        return train(called, replace(stage, pruning=begun.pruning), start / called)

    shares = how.shares(reduction)
    first, first_record = trained("first", shares[0])
    last, last_record = trained("last", shares[1])
    mirror = how.mirror and recipe.augment.flip
    model = escalate(
        [first, last],
        by=how.by, weight=how.weight, mirror=mirror, example=example, dense_macs=dense,
    )  # fmt: skip
    model = calibrate(model, named.validation(dataset), reduction=reduction)
    point = model.operating_points[0]
    return model, {
        "stages": {"first": first_record, "last": last_record},
        "budget": {"calibrated": asdict(point)},
        "best_validation_accuracy": point.accuracy,
        "best_epoch": last_record["best_epoch"],
        "hours": first_record["hours"] + last_record["hours"],
    }


def train_escalated_run(
    recipe: Recipe,
    dataset: Dataset,
    out: Path,
    *,
    reduction: float,
    init: Path | str | None,
    train: TrainStage | None = None,
    name: str = "custom",
) -> tuple[Escalating, dict[str, Any]]:
    """The same in a run folder, which `ftwt eval` and `ftwt bench` take.

    Unless `train` is given, the stages train on the CPU in run folders `first` and `last` in it; a
    run that was stopped goes on there.

    Raises:
        FtwtError: as `train_escalated`, or the folder was started with other options.
    """
    # Before anything is written.
    init = _start_of(init)

    def stage(called: str, chosen: Recipe, start: Path | str) -> tuple[nn.Module, dict[str, Any]]:
        return runs.finished_or_trained(
            chosen, dataset, out / called, name=f"{name} {called}", init=start
        )

    asked = {"specification": specs.recorded(recipe), "reduction": reduction}
    file = out / "run.json"
    if file.is_file():
        was = records.read_record(out)
        held = {
            "specification": specs.renewed(was.get("specification")),
            "reduction": was.get("reduction"),
        }
        checkpoint.check_same(out, held, asked)
    record = {
        "status": "running",
        "recipe": name,
        **asked,
        "init": str(init),
        "seed": recipe.settings.seed,
        **records.circumstances("cpu", recipe.settings.amp),
    }
    make_folder(out)
    on_main(lambda: records.write_record(out, record))
    model, found_record = train_escalated(
        recipe, dataset, out / "start", reduction=reduction, init=init, train=train or stage
    )
    record |= found_record | {"status": "finished"}

    def finish() -> None:
        start = (out / "start" / "first" / "dense.safetensors").read_bytes()
        write_atomically(out / "dense.safetensors", start)
        storage.save(model, out / "model.safetensors", card_of(recipe, dataset, {}))
        records.write_record(out, record)

    on_main(finish)
    return model, record


def _start_of(init: Path | str | None) -> Path | str:
    """The trained weights, which have to be there."""
    if init is None:
        raise FtwtError(
            "train: escalation ranks the filters of a trained network; give the dense run as --init"
        )
    return init
