"""Thresholds of an escalating network, from what its settings answer on validation images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ftwt.budget.profile import check_images
from ftwt.errors import FtwtError, check_within
from ftwt.gated.escalation.cascade import put
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.escalation.policy import check_numbers
from ftwt.gated.escalation.signals import Temperature, likeliest_temperature
from ftwt.gated.operating_points import OperatingPoint
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first


@dataclass(frozen=True, eq=False)
class RecordedAnswers:
    """What each of S settings answered for N images, as if every image had come that far."""

    sureness: Float[Tensor, "N S-1"]
    # 1 where the answer is right, 0 where it is wrong, NaN where that cannot be told.
    right: Float[Tensor, "N S"]
    # The same of each setting's own answer, where answers are weighted.
    alone: Float[Tensor, "N S"]
    # Exact MACs up to and with each setting.
    macs: Float[Tensor, "N S"]

    def answered(self, threshold: float | Tensor) -> Int[Tensor, "N"]:
        """Place of the setting that answers each image, at one threshold or one for each step.

        Args:
            threshold: a number, or a tensor (S-1,).
        """
        return (self.sureness < threshold).long().cumprod(1).sum(1)

    def at(self, threshold: float) -> tuple[float, float]:
        """Mean MACs and accuracy with one threshold for all settings."""
        place = self.answered(threshold)[:, None]
        macs, right = self.macs.gather(1, place), self.right.gather(1, place)
        return macs.mean().item(), right.mean().item()

    @property
    def candidates(self) -> list[float]:
        """Rising thresholds: each lets more images go on than the one before, from none to all."""
        levels = torch.unique(self.sureness)
        middles = (levels[:-1] + levels[1:]) / 2
        last = math.nextafter(levels[-1].item(), math.inf)
        return [levels[0].item(), *middles.tolist(), last]


def to_reductions(model: Escalating, loader: Loader, reductions: Sequence[float]) -> Escalating:
    """The model with thresholds for each of some mean reductions.

    Raises:
        FtwtError: a reduction that not even the first setting alone reaches.
    """
    _check_kinds(model)
    seen = answers(model, loader)
    candidates = seen.candidates
    saved = 1 - torch.tensor([seen.at(one)[0] for one in candidates]) / model.dense_macs
    most = saved.max().item()
    if reductions[-1] > most:
        raise FtwtError(
            f"calibrate: a reduction of {reductions[-1]:g} is out of reach, the largest is "
            f"{most:.3f}, where no image goes on; ask for less, or give a cheaper first setting"
        )
    points = [
        _point(model, seen, candidates[int((saved - reduction).abs().argmin())], reduction)
        for reduction in reductions
    ]
    now = points[0] if len(points) == 1 else None
    return _with(model, now, tuple(points))


def to_drop(model: Escalating, loader: Loader, drop: float) -> Escalating:
    """The model at the cheapest threshold from which on it loses no more than `drop`.

    The loss is against the last setting by itself.

    Raises:
        FtwtError: `drop` is no share; there are no classes; or even asking every setting for every
            image loses more.
    """
    mend = "give the largest loss of accuracy as a fraction, such as 0.005 for half a point"
    check_within("calibrate", "drop", drop, "[0, 1)", mend)
    _check_kinds(model)
    seen = answers(model, loader)
    if bool(seen.alone.isnan().any()):
        raise FtwtError(
            "calibrate: the network is no classifier of these images, so there is no accuracy to "
            "keep; give reductions="
        )
    least = seen.alone[:, -1].mean().item() - drop - 1e-9
    found = None
    # From the dearest on: what one threshold gains by luck, a slightly higher one may lose.
    for threshold in reversed(seen.candidates):
        if seen.at(threshold)[1] < least:
            break
        found = threshold
    if found is None:
        every = seen.at(math.inf)[1]
        raise FtwtError(
            f"calibrate: a drop of {drop:g} is out of reach, with both answers of every image "
            f"weighted the accuracy is {every:.4f}; allow more, or give escalate weight=1"
        )
    point = _point(model, seen, found, None)
    return _with(model, point, (point,))


def with_temperatures(model: Escalating, loader: Loader) -> Escalating:
    """The model with each setting's logits scaled before its signal is asked, by the likeliest.

    `escalation.Temperature` says what that is for. Calibrate after that.

    Raises:
        FtwtError: the network is no classifier, or there are too few images.
    """
    device = next(model.parameters()).device
    logits: list[list[Tensor]] = [[] for _ in model.policy.signals]
    labels = []
    with evaluating(model):
        for images, classes in first(loader, None, "with_temperatures"):
            for step, (kept, setting) in enumerate(zip(logits, model.gated, strict=False)):
                output = setting(*model.policy.shown(step, (images.to(device),)))
                if bool(_right(output, classes).isnan().any()):
                    raise FtwtError(
                        "with_temperatures: the network is no classifier of these images; "
                        "temperatures are of logits (B, C) for labels (B,)"
                    )
                kept.append(output.cpu())
            labels.append(classes)
    truth = torch.cat(labels)
    check_images(len(truth), "with_temperatures")
    signals = [
        Temperature(
            signal.signal if isinstance(signal, Temperature) else signal,
            likeliest_temperature(torch.cat(kept), truth),
        )
        for signal, kept in zip(model.policy.signals, logits, strict=True)
    ]
    return model.with_policy(replace(model.policy, signals=tuple(signals)))


def answers(
    model: Escalating, loader: Loader, called: str = "calibrate", limit: int | None = None
) -> RecordedAnswers:
    """Ask every setting for every image of a loader.

    Raises:
        FtwtError: too few images, or settings out of order by mean cost.
    """
    device = next(model.parameters()).device
    parts = []
    with evaluating(model):
        for images, labels in first(loader, limit, called):
            parts.append([one.cpu() for one in _asked(model, images.to(device), labels)])
    sureness, right, alone, macs = (torch.cat(column) for column in zip(*parts, strict=True))
    check_images(len(macs), called)
    means = macs.mean(0)
    for place, (before, after) in enumerate(pairwise(means.tolist())):
        if after <= before:
            raise FtwtError(
                f"{called}: on average setting {place} costs {before:,.0f} MACs on these images, "
                f"the next one {after:,.0f}; give escalate settings in order of rising cost"
            )
    return RecordedAnswers(sureness, right, alone, macs.cumsum(1))


def _check_kinds(model: Escalating) -> None:
    """One threshold for all settings needs answers that are judged alike."""
    signals = model.policy.signals
    if len({type(one.signal if isinstance(one, Temperature) else one) for one in signals}) > 1:
        raise FtwtError(
            "calibrate: one threshold is found for all settings, but they are judged by several "
            "signals; give escalate one by= for all, or set thresholds by with_thresholds"
        )


def _asked(model: Escalating, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Of a batch: sureness (B, S-1), right and right alone (B, S), each setting's MACs (B, S)."""
    places = torch.arange(len(images), device=images.device)
    sureness, right, alone, macs = [], [], [], []
    output = None
    for step, setting in enumerate(model.gated):
        trace = setting.trace(*model.policy.shown(step, (images,)), targets=False)
        output = trace.output if step == 0 else put(output, places, trace.output, model.policy)[0]
        if step < len(model.policy.signals):
            sureness.append(model.policy.sureness(step, output, len(images)).double())
            check_numbers(step, sureness[-1])
        right.append(_right(output, labels))
        macs.append(trace.macs.double())
        alone.append(_right(trace.output, labels))
    return (
        torch.stack(sureness, 1),
        torch.stack(right, 1),
        torch.stack(alone, 1),
        torch.stack(macs, 1),
    )


def _right(output: Any, labels: Any) -> Float[Tensor, "B"]:
    """Which answers are right; NaN unless these are logits (B, C) for labels (B,)."""
    if isinstance(output, Tensor) and output.dim() == 2 and labels.shape == output.shape[:1]:
        right: Tensor = output.argmax(1) == labels.to(output.device)
        return right.double()
    return torch.full((len(labels),), math.nan, dtype=torch.float64)


def _point(
    model: Escalating, seen: RecordedAnswers, threshold: float, asked: float | None
) -> OperatingPoint:
    macs, accuracy = seen.at(threshold)
    measured = 1 - macs / model.dense_macs
    thresholds = {str(place): threshold for place in range(len(model.thresholds))}
    return OperatingPoint(measured if asked is None else asked, measured, accuracy, thresholds)


def _with(
    model: Escalating, now: OperatingPoint | None, points: tuple[OperatingPoint, ...]
) -> Escalating:
    thresholds = model.thresholds if now is None else tuple(now.thresholds.values())
    return model.with_thresholds(thresholds, points)
