"""Several budgets in one model: gate thresholds as a function of the reduction."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real

from ftwt.errors import FtwtError


@dataclass(frozen=True)
class OperatingPoint:
    """Thresholds that were calibrated for one reduction; fractions.

    `measured` and `accuracy` are what came out on the calibration images.
    """

    reduction: float
    measured: float
    accuracy: float
    thresholds: Mapping[str, float]

    def __hash__(self) -> int:
        return hash((self.reduction, *self.thresholds.items()))


def thresholds_at(points: tuple[OperatingPoint, ...], reduction: float) -> dict[str, float]:
    """Each site's threshold for a reduction: an operating point's, or between those of two.

    Thresholds of gates rise from one to the next, so they never fall as the reduction rises; those
    of an escalation fall in the same way.

    Raises:
        FtwtError: there are no operating points, or the reduction lies outside of them.
    """
    if isinstance(reduction, bool) or not isinstance(reduction, Real):
        raise FtwtError(f"at(reduction={reduction!r}): give a share of the MACs, such as 0.5")
    if not points:
        raise FtwtError(
            f"at(reduction={reduction:g}): the model was not calibrated; "
            "use the one that ftwt.calibrate(model, loader, reductions=[...]) gives"
        )
    first, last = points[0], points[-1]
    # 0.2 + 0.4 is a little more than 0.6.
    near = min(max(reduction, first.reduction), last.reduction)
    if abs(near - reduction) < 1e-9:
        reduction = near
    # NaN is refused too.
    if not first.reduction <= reduction <= last.reduction:
        raise FtwtError(
            f"at(reduction={reduction:g}): the model was calibrated for reductions from "
            f"{first.reduction:g} to {last.reduction:g}; ask within, or calibrate it for this one"
        )
    for low, high in pairwise(points):
        if low.reduction <= reduction < high.reduction:
            share = (reduction - low.reduction) / (high.reduction - low.reduction)
            return {
                name: _between(before, high.thresholds[name], share)
                for name, before in low.thresholds.items()
            }
    return dict(last.thresholds)


def check_thresholds(thresholds: Mapping[str, float], sites: Collection[str]) -> None:
    """Raise FtwtError unless there is a threshold for each site and no other."""
    wrong = sorted(set(thresholds) ^ set(sites))
    if wrong:
        what = "is no site" if wrong[0] in thresholds else "has no threshold"
        raise FtwtError(
            f"with_thresholds: {wrong[0]!r} {what}; give one number for each of {', '.join(sites)}"
        )


def _between(low: float, high: float, share: float) -> float:
    # Rounding may lead past the end, which would break the order of settings.
    return min(max(low, high), max(min(low, high), low + share * (high - low)))
