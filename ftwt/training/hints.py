"""What a training's own numbers warn of."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftwt.training.recipes import Recipe

# Steps of an epoch that schedules and batch norms make something of.
_FEW = 10
# Accuracy over that of guessing which is still no learning.
_CHANCE = 1.2
# Of MACs in the paper's convention: less is not worth a gate.
_NOTHING = 0.001


def before(steps: int) -> Iterator[str]:
    """What the number of an epoch's steps warns of."""
    if steps < _FEW:
        yield (
            f"an epoch has {steps} step{'s' * (steps != 1)}, few for schedules and batch norms; "
            "give more images, or a recipe with a smaller batch"
        )


def after(recipe: Recipe, record: Mapping[str, Any], classes: int) -> Iterator[str]:
    """What the result of a training warns of; `record` is as `run.json`."""
    best, last = record.get("best_validation_accuracy"), record.get("last_validation", {})
    if best is not None and best * classes <= _CHANCE:
        yield (
            f"validation accuracy stayed at chance ({best:.3f} for {classes} classes): lower the "
            "learning rates, start from trained weights (--init), or train longer"
        )
    closed = last.get("reduction_paper", 1.0)
    if recipe.pruning is not None and recipe.settings.gates is not None and closed < _NOTHING:
        opened = getattr(recipe.pruning.gate, "open", None)
        start = f"; they start open (open={opened:g})" if opened else ""
        yield (
            "no gate ever closed on validation images, so nothing is saved"
            f"{start}: lower the mass of the target, train gates longer or at a higher rate"
        )
