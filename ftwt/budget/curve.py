"""Accuracy over reduction from one set of weights, on test images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ftwt import data
from ftwt.budget.calibrate import calibrate
from ftwt.budget.named import validation
from ftwt.data.batches import evaluation_batches
from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.io import storage
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import as_trained

# Validation images that thresholds are calibrated on.
_IMAGES = 2000


def reduction_curve(
    run: Path,
    name: str,
    reductions: Sequence[float],
    *,
    size: int | None = None,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Evaluate a run at each of some reductions on the test images; nothing is trained.

    Where the run does not hold thresholds for these reductions, they are calibrated on images of
    the validation split first. The run is not changed.

    Returns:
        For each reduction what was asked, and accuracy and reductions on the test images.

    Raises:
        FtwtError: no gated run there, reductions that do not rise or are out of reach.
    """
    model, card = storage.load(run, device=device)
    if not isinstance(model, (Gated, Escalating)):
        raise FtwtError(f"eval: {run} has no gates, so nothing to move; leave out --reductions")
    dataset = as_trained(str(run), card, data.load(name, size=size, workers=workers))
    known = [point.reduction for point in model.operating_points]
    if not (known and reductions and known[0] <= min(reductions) <= max(reductions) <= known[-1]):
        images = validation(dataset, limit=_IMAGES)
        model = calibrate(model, images, reductions=reductions)
    batches = evaluation_batches(dataset, dataset.test, limit=limit)
    rows = []
    for reduction in reductions:
        seen = evaluate(model.at(reduction=reduction), batches)
        rows.append(
            {
                "asked": reduction,
                "accuracy": seen.accuracy,
                "reduction_exact": seen.reduction_exact,
                "reduction_paper": seen.reduction_paper,
            }
        )
    return rows
