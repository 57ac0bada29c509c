"""Moving gate thresholds until a trained model saves what was asked for, without training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

from ftwt.budget import escalation
from ftwt.budget.profile import check_images, check_loader, check_reduction, check_rising, dearest
from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.operating_points import OperatingPoint
from ftwt.gates.interface import is_oracle
from ftwt.training.evaluation import Evaluation, evaluate
from ftwt.training.inspection import Loader, check_gated
from ftwt.training.tasks import LABELLED, Task

# Near enough, as a share of MACs; passes over the images that one reduction may take.
_NEAR = 0.001
_PASSES = 14
# Logits: where to look first, and beyond which every gate says the same for any image.
_STEP = 0.5
_FURTHEST = 2.0**20


@overload
def calibrate(
    model: Gated,
    loader: Loader,
    *,
    reductions: Sequence[float] = ...,
    reduction: float | None = ...,
    task: Task = ...,
) -> Gated: ...


@overload
def calibrate(
    model: Escalating,
    loader: Loader,
    *,
    reductions: Sequence[float] = ...,
    reduction: float | None = ...,
    drop: float | None = ...,
    task: Task = ...,
) -> Escalating: ...


def calibrate(
    model: Gated | Escalating,
    loader: Loader,
    *,
    reductions: Sequence[float] = (),
    reduction: float | None = None,
    drop: float | None = None,
    task: Task = LABELLED,
) -> Gated | Escalating:
    """Find thresholds for each of some reductions; nothing is trained.

    The answer is the same model, sharing its weights, that knows these settings:
    `at(reduction=...)` gives it at one of them or between two, and `ftwt.save` saves them.
    A lone reduction is set at once.

    Of a gated network, one shift of all gates' thresholds, in logits from zero, is searched for
    each reduction, with the masks applied. Of an escalating network it is how sure an answer has to
    be, one threshold for all settings but the last; the gates stay as they are.

    Args:
        model: a network with trained gates, or an escalating one.
        loader: gives (images, labels), and can be iterated again and again; some hundreds of
            images that the model was not trained on.
        reductions: shares of the plain network's MACs to save, exact, gates counted; rising.
        reduction: a lone one, instead.
        drop: of an escalating network, instead: the most accuracy to lose against its last
            setting, a fraction.
        task: what a gated network is for; an operating point's `accuracy` is its score. Answers
            of an escalating network are logits.

    Raises:
        FtwtError: a reduction that no threshold reaches (says the largest, and for gates which
            layers limit it), reductions that do not rise, gates without logits, too few images.
    """
    if (reduction is not None) + (drop is not None) + bool(reductions) > 1:
        raise FtwtError("calibrate: give one of reductions=, reduction= and drop= only")
    wanted = reductions if reduction is None else (reduction,)
    if isinstance(model, Escalating):
        if drop is not None:
            check_loader(loader, "calibrate")
            return escalation.to_drop(model, loader, drop)
        _check_rising(loader, wanted)
        return escalation.to_reductions(model, loader, wanted)
    if drop is not None:
        raise FtwtError(
            "calibrate: drop= is for what ftwt.escalate makes; give reductions= for gates"
        )
    check_gated(model, "calibrate")
    assert isinstance(model, Gated)
    return _calibrated(model, loader, wanted, task)


def _calibrated(model: Gated, loader: Loader, reductions: Sequence[float], task: Task) -> Gated:
    _check_rising(loader, reductions)
    if is_oracle(model.pruning.gate):
        raise FtwtError(
            "calibrate: an oracle has no thresholds to move; train gates, or choose its mass by "
            "ftwt.solve"
        )
    shifts = _Shifts(model, loader, task)
    check_images(shifts.at(0.0).images, "calibrate")
    most = shifts.at(_FURTHEST).reduction_exact
    if reductions[-1] > most:
        raise FtwtError(_out_of_reach(model, reductions[-1], most))
    points = []
    lowest = -_FURTHEST
    for reduction in reductions:
        # From the last shift on, so that thresholds never fall as the reduction rises.
        lowest = shifts.search(reduction, lowest)
        found = shifts.at(lowest)
        thresholds = dict.fromkeys(model.sites, lowest)
        score = found.metrics[task.score]
        points.append(OperatingPoint(reduction, found.reduction_exact, score, thresholds))
    now = points[0].thresholds if len(points) == 1 else model.thresholds
    return model.with_thresholds(now, tuple(points))


@dataclass
class _Shifts:
    """Accuracy and cost at each threshold that was tried."""

    model: Gated
    loader: Loader
    task: Task
    seen: dict[float, Evaluation] = field(default_factory=dict)

    def at(self, shift: float) -> Evaluation:
        """Evaluate with this threshold at every site."""
        if shift not in self.seen:
            moved = self.model.with_thresholds(dict.fromkeys(self.model.sites, shift))
            self.seen[shift] = evaluate(moved, self.loader, task=self.task)
        return self.seen[shift]

    def search(self, reduction: float, lowest: float) -> float:
        """The shift, from `lowest` on, whose reduction is nearest to one."""

        def miss(shift: float) -> float:
            return self.at(shift).reduction_exact - reduction

        if miss(lowest) >= 0:
            return lowest
        low, high = self._bracket(miss, lowest)
        for _ in range(_PASSES):
            if min(abs(miss(low)), abs(miss(high))) <= _NEAR or high - low < 1e-6:
                break
            middle = _guess(low, miss(low), high, miss(high))
            low, high = (middle, high) if miss(middle) < 0 else (low, middle)
        return min((low, high), key=lambda shift: abs(miss(shift)))

    def _bracket(self, miss: Callable[[float], float], lowest: float) -> tuple[float, float]:
        """A shift that saves too little and one that saves enough, as near as is known."""
        if lowest == -_FURTHEST:
            step = _STEP
            while miss(-step) >= 0:
                step *= 2
            lowest = max(one for one in self.seen if -step <= one and miss(one) < 0)
        known = [one for one in sorted(self.seen) if one > lowest and miss(one) >= 0]
        high = known[0]
        # Not from the far end, where every gate is closed, but from the next likely place.
        step = _STEP
        while high == _FURTHEST and lowest + step < high:
            if miss(lowest + step) >= 0:
                high = lowest + step
            else:
                lowest, step = lowest + step, 2 * step
        inside = [one for one in self.seen if lowest < one < high and miss(one) < 0]
        return max([lowest, *inside]), high


def _guess(low: float, under: float, high: float, over: float) -> float:
    """Between a straight line's zero and the middle: neither end can be stuck to."""
    line = low - under * (high - low) / (over - under)
    share = 0.7
    return share * line + (1 - share) * (low + high) / 2


def _check_rising(loader: Loader, reductions: Sequence[float]) -> None:
    check_rising("calibrate", "reductions", reductions, "[0.5]")
    for reduction in reductions:
        check_reduction(reduction, "calibrate")
    check_loader(loader, "calibrate")


def _out_of_reach(model: Gated, reduction: float, most: float) -> str:
    plan = model.anatomy.plan
    left = {
        layer.name: layer.dense_macs if layer.site is None else plan.gate_cost(layer)
        for layer in plan.layers
    }
    layers = dearest({name: macs / plan.dense_macs for name, macs in left.items()})
    return (
        f"calibrate: a reduction of {reduction:g} is out of reach, the largest is {most:.3f} with "
        f"every gate closed; of the plain network's MACs, gates and layers without a gate cost "
        f"most in {layers}; ask for less"
    )
