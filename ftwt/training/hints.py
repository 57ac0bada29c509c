"""What a training's own numbers warn of."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftwt.training.recipes import Recipe

# Steps of an epoch that schedules and batch norms make something of.
_FEW = 10
# Accuracy over that of guessing which is still no learning.
_CHANCE = 1.2
# Of the plain network's MACs: less is not worth a gate.
_NOTHING = 0.001


def before(steps: int) -> Iterator[str]:
    """What the number of an epoch's steps warns of."""
    if steps < _FEW:
        yield (
            f"an epoch has {steps} step{'s' * (steps != 1)}, few for schedules and batch norms; "
            "give more images, or a recipe with a smaller batch"
        )


def after(
    recipe: Recipe, record: Mapping[str, Any], classes: int, gates: float = 0.0
) -> Iterator[str]:
    """What the result of a training warns of.

    Args:
        recipe: what was trained.
        record: as `run.json`.
        classes: of the data.
        gates: what gates cost, a share of the plain network's MACs.
    """
    best, last = record.get("best_validation_accuracy"), record.get("last_validation", {})
    if best is not None and best * classes <= _CHANCE:
        yield (
            f"validation accuracy stayed at chance ({best:.3f} for {classes} classes): lower the "
            "learning rates, start from trained weights (--init), or train longer"
        )
    # With every filter on, just what the gates cost.
    closed = last.get("reduction_exact", 1.0) + gates
    if recipe.pruning is not None and recipe.settings.gates is not None and closed < _NOTHING:
        opened = getattr(recipe.pruning.gate, "open", None)
        start = f"; they start open (open={opened:g})" if opened else ""
        yield (
            "no gate ever closed on validation images, so nothing is saved"
            f"{start}: lower the mass of the target, train gates longer or at a higher rate"
        )
