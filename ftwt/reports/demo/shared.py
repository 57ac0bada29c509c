"""The demo's second half: a narrow network that shares its budget with the whole one."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ftwt import budget, data, losses
from ftwt.budget.narrow_start import chosen_on, narrow_start
from ftwt.budget.static import mean_scores, uniform_masks
from ftwt.gated.escalation import Escalating, escalate
from ftwt.gated.model import Gated
from ftwt.gates import Fixed
from ftwt.io import storage
from ftwt.macs import dense_macs
from ftwt.reports.demo.figures import BudgetPoint
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import Loader
from ftwt.training.optimizers import OneCycle, Sgd
from ftwt.training.phases import Phase
from ftwt.training.preparation import card_of
from ftwt.training.recipes import Escalation, Recipe
from ftwt.training.runs import Callbacks, train_run

# What is aimed at on the page, and the budgets that the same weights are set to.
REDUCTION = 0.5
REDUCTIONS = (0.3, 0.4, 0.5, 0.6)


def narrow_recipe(dense: Recipe, epochs: int) -> Recipe:
    """How the narrow network learns: labels, and what the dense one answers."""
    backbone = Sgd(0.1, weight_decay=5e-4, schedule=OneCycle(warmup=0.1))
    settings = replace(dense.settings, phases=(Phase("narrow", epochs),), backbone=backbone)
    objective = losses.CrossEntropy() + losses.Distillation()
    return replace(dense, settings=settings, objective=objective)


def train_shared(
    recipe: Recipe,
    dataset: data.Dataset,
    plain: nn.Module,
    folder: Path,
    validation: Loader,
    callbacks: Callbacks,
) -> Escalating:
    """Cut the dense network, train what is left, and find thresholds for several budgets.

    Args:
        recipe: of the narrow network.
        dataset: what it learns from.
        plain: the dense network, trained.
        folder: gets `start/`, `narrow/` and `model.safetensors`.
        validation: images that thresholds are found on.
        callbacks: what is told of the training.
    """
    example = torch.zeros(1, 3, dataset.image_size, dataset.image_size)
    share, _ = Escalation().shares(REDUCTION)
    card = card_of(recipe, dataset, {})

    def choose(whole: Gated) -> Fixed:
        macs = share * dense_macs(plain, example)
        return uniform_masks(whole, mean_scores(whole, chosen_on(dataset)), macs)

    start = narrow_start(folder / "start", plain, choose, example=example, card=card)
    narrow, _ = train_run(
        replace(recipe, pruning=start.pruning), dataset, folder / "narrow",
        name="narrow", init=folder / "start", callbacks=callbacks,
    )  # fmt: skip
    model = escalate([narrow, plain.eval()], example=example)
    model = budget.calibrate(model, validation, reductions=REDUCTIONS)
    storage.save(model, folder / "model.safetensors", card)
    return model


def budget_points(model: Escalating, test: Loader) -> tuple[BudgetPoint, ...]:
    """Each budget on the test images."""
    found = (evaluate(model.at(reduction=one), test) for one in REDUCTIONS)
    return tuple(BudgetPoint(one.reduction_exact, one.accuracy) for one in found)
