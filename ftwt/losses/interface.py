"""What a loss is, and how losses add up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ftwt.errors import FtwtError


@runtime_checkable
class SitePass(Protocol):
    """What a loss reads of one site in one pass: a `ftwt.SiteTrace` has it."""

    @property
    def weight(self) -> Float[Tensor, "B C"]:
        """What multiplied the site's output."""
        ...

    @property
    def logits(self) -> Float[Tensor, "B C"] | None:
        """The gate's answer; None for an oracle."""
        ...

    @property
    def target(self) -> Bool[Tensor, "B C"] | None:
        """What the gate should have answered; None where targets were not asked for."""
        ...


@runtime_checkable
class Pass(Protocol):
    """What a loss reads of one pass: a `ftwt.Trace` has it."""

    @property
    def output(self) -> Any:
        """What the network returned."""
        ...

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network was given."""
        ...

    @property
    def sites(self) -> Mapping[str, SitePass]:
        """By site, what its gate decided."""
        ...

    def relaxed_share(self) -> Float[Tensor, "B"]:
        """Exact MACs of each sample over the dense ones, with the estimator's gradient."""
        ...


@runtime_checkable
class Loss(Protocol):
    """A scalar from one traced pass: a frozen dataclass, so that it prints and compares.

    Each loss takes `__add__ = add` and `__mul__ = __rmul__ = scale`, which make an `Objective`.
    """

    def __call__(self, trace: Pass, labels: Tensor | None = None) -> Float[Tensor, ""]:
        """Return the loss of a batch."""
        ...


class Report(NamedTuple):
    """An objective's value for a batch: the sum to minimise, and each part before its weight."""

    total: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses: `CrossEntropy() + 0.5 * GateBCE()`."""

    terms: tuple[tuple[float, Loss], ...]

    def __call__(self, trace: Pass, labels: Tensor | None = None) -> Report:
        """Return the sum, and each part under the name of its loss."""
        if not self.terms:
            raise FtwtError(
                "Objective: there is nothing to minimise; GateBCE trains gates alone, so a phase "
                "that trains the backbone alone needs another loss, for example "
                "losses.CrossEntropy() + losses.GateBCE()"
            )
        parts = {_name(loss): loss(trace, labels) for _, loss in self.terms}
        weights = [weight for weight, _ in self.terms]
        weighted = [weight * part for weight, part in zip(weights, parts.values(), strict=True)]
        return Report(torch.stack(weighted).sum(), parts)

    def __post_init__(self) -> None:
        names = [_name(loss) for _, loss in self.terms]
        for name in names:
            if names.count(name) > 1:
                raise FtwtError(
                    f"Objective: {name} is given {names.count(name)} times; give each loss once, "
                    "with a weight"
                )

    @staticmethod
    def of(loss: "Loss | Objective") -> "Objective":
        """An objective of one loss, or the objective itself."""
        return loss if isinstance(loss, Objective) else Objective(((1.0, loss),))

    def __add__(self, other: "Loss | Objective") -> "Objective":
        return Objective(self.terms + Objective.of(other).terms)

    def __mul__(self, weight: float) -> "Objective":
        return Objective(tuple((_number(weight) * own, loss) for own, loss in self.terms))

    __rmul__ = __mul__


def add(loss: Loss, other: Loss | Objective) -> Objective:
    """`loss + other`."""
    return Objective.of(loss) + other


def scale(loss: Loss, weight: float) -> Objective:
    """`weight * loss` and `loss * weight`."""
    return Objective(((_number(weight), loss),))


def need_labels(loss: str, labels: Tensor | None) -> Tensor:
    """The labels, or a clear error where they are missing."""
    if labels is None:
        raise FtwtError(f"{loss}: called without labels; call it as loss(trace, labels)")
    return labels


def _number(weight: float) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise FtwtError(
            f"Objective: a loss was multiplied by {weight!r}; give a number, for example 0.5"
        )
    if not math.isfinite(weight):
        raise FtwtError(f"Objective: a loss has the weight {weight!r}; give a finite number")
    return float(weight)


def _name(loss: Loss) -> str:
    return type(loss).__name__
