"""Whether what a network computes really depends on the image, measured against controls."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.budget.escalation import answers
from ftwt.budget.profile import check_images, check_loader
from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.reports.analysis import controls
from ftwt.reports.analysis.diagnosis import Control, Dynamism, SettingShare
from ftwt.training.inspection import Loader, check_gated

# A filter depends on the image if it runs for more than this share of them, and less than the rest.
_SOME = 0.02


def dynamism(
    model: nn.Module, loader: Loader, *, limit: int | None = None, seed: int = 0
) -> Dynamism:
    """Diagnose a gated or escalating network: do its decisions depend on the image?

    Masks are shuffled over the whole set, so that images may lie class by class. The loader is read
    four times.

    Args:
        model: a gated or escalating network; its training mode is restored.
        loader: gives (images, labels), the same in the same order each time.
        limit: look at most at so many images; give enough of all classes.
        seed: of the shuffles.

    Raises:
        FtwtError: no gates, too few images, or a loader that gives other images the next time.
    """
    check_loader(loader, "dynamism")
    if isinstance(model, Escalating):
        return _of_escalation(model, loader, limit)
    check_gated(model, "dynamism")
    assert isinstance(model, Gated)
    return _of_gates(model, loader, limit, torch.Generator().manual_seed(seed))


def _of_gates(
    model: Gated, loader: Loader, limit: int | None, generator: torch.Generator
) -> Dynamism:
    seen = controls.with_own_masks(model, loader, limit, "dynamism")
    count = len(seen.macs)
    check_images(count, "dynamism")

    def under(masks: dict[str, Tensor], macs: float) -> Control:
        right = controls.right_with(model, loader, limit, seen, masks, "dynamism")
        return _control(seen.right, right, macs)

    def others(place: Tensor) -> Control:
        masks = {name: mask[place] for name, mask in seen.masks.items()}
        return under(masks, seen.macs[place].mean().item())

    fixed, cost = controls.projection(model, seen)
    shares = torch.cat([mask.double().mean(0) for mask in seen.masks.values()])
    depends = (shares >= _SOME) & (shares <= 1 - _SOME)
    return Dynamism(
        **_costs(seen.right, seen.macs),
        dense_macs=model.dense_macs,
        filters=len(shares),
        filters_that_depend=int(depends.sum()),
        shuffled=others(controls.shuffle(count, generator)),
        shuffled_at_cost=others(controls.shuffle_at_cost(seen.macs, generator)),
        static=under({name: mask.expand(count, -1) for name, mask in fixed.items()}, cost),
    )


def _of_escalation(model: Escalating, loader: Loader, limit: int | None) -> Dynamism:
    seen = answers(model, loader, "dynamism", limit)
    if bool(seen.right.isnan().any()):
        raise FtwtError(
            "dynamism: the network is no classifier of these images; give logits (B, C) and "
            "labels (B,)"
        )
    place = seen.answered(torch.tensor(model.thresholds, dtype=torch.float64))
    right = seen.right.gather(1, place[:, None])[:, 0]
    macs = seen.macs.gather(1, place[:, None])[:, 0]
    shares = torch.bincount(place, minlength=seen.macs.shape[1]).double() / len(place)
    alone = seen.macs.diff(dim=1, prepend=torch.zeros_like(seen.macs[:, :1]))
    rows = zip(seen.alone.mean(0).tolist(), alone.mean(0).tolist(), shares.tolist(), strict=True)
    return Dynamism(
        **_costs(right, macs),
        dense_macs=model.dense_macs,
        filters=0,
        filters_that_depend=0,
        shuffled=_control(right, seen.right @ shares, (seen.macs @ shares).mean().item()),
        shuffled_at_cost=None,
        static=None,
        settings=tuple(SettingShare(*row) for row in rows),
    )


def _costs(right: Tensor, macs: Float[Tensor, "N"]) -> dict[str, Any]:
    chosen = right.bool()
    return {
        "images": len(macs),
        "accuracy": right.double().mean().item(),
        "macs": macs.mean().item(),
        "deviation_macs": macs.std(correction=0).item(),
        "macs_right": macs[chosen].mean().item() if bool(chosen.any()) else None,
        "macs_wrong": macs[~chosen].mean().item() if bool((~chosen).any()) else None,
    }


def _control(own: Tensor, other: Tensor, macs: float) -> Control:
    """Both are 1 where the answer to an image is right, 0 where it is wrong, or between."""
    difference = own.double() - other.double()
    deviation = difference.std(correction=0).item() / math.sqrt(len(own))
    return Control(other.double().mean().item(), macs, deviation)
