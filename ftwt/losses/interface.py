"""What a loss is, and how losses add up."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    runtime_checkable,
)

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
class TracedPass(Protocol):
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
    """A scalar from one traced pass: a function, or a value that is called like one.

    Losses of ftwt add up by themselves; a loss of your own adds to them as it is, and scales as
    `0.5 * losses.of(function)`. For a run that is saved it is a registered function, or a
    registered frozen dataclass.
    """

    def __call__(self, trace: TracedPass, labels: Any = None) -> Float[Tensor, ""]:
        """Return the loss of a batch."""
        ...


def trains_gates_alone(loss: Loss) -> bool:
    """Whether a loss says so by `trains_gates_alone`: phases without gates leave it out."""
    return bool(getattr(loss, "trains_gates_alone", False))


class Report(NamedTuple):
    """An objective's value for a batch: the sum to minimise, and each part before its weight."""

    total: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses: `CrossEntropy() + 0.5 * GateBCE()`."""

    terms: tuple[tuple[float, Loss], ...]

    def __post_init__(self) -> None:
        for _, loss in self.terms:
            _check(loss)

    def __call__(self, trace: TracedPass, labels: Any = None) -> Report:
        """Return the sum, and each part under its name."""
        if not hasattr(trace, "sites"):
            raise FtwtError(
                f"Objective: called with a {type(trace).__name__} where a trace comes first; call "
                "it as objective(model.trace(images), labels)"
            )
        if not self.terms:
            raise FtwtError(
                "Objective: there is nothing to minimise; GateBCE trains gates alone, so a phase "
                "that trains the backbone alone needs another loss, for example "
                "losses.CrossEntropy() + losses.GateBCE()"
            )
        parts = {
            name: _scalar(name, loss(trace, labels))
            for name, (_, loss) in zip(self.names, self.terms, strict=True)
        }
        weights = [weight for weight, _ in self.terms]
        weighted = [weight * part for weight, part in zip(weights, parts.values(), strict=True)]
        return Report(torch.stack(weighted).sum(), parts)

    @property
    def names(self) -> tuple[str, ...]:
        """What each part is called: by its class or function, numbered where two share a name.

        >>> from ftwt.losses import GateBCE
        >>> (GateBCE() + GateBCE(balance="site")).names
        ('GateBCE', 'GateBCE 2')
        """
        # "loss" is what records call the sum.
        names = ["loss"]
        for _, loss in self.terms:
            own = _name(loss)
            numbered = (f"{own} {number}" for number in count(2))
            names.append(next(one for one in chain([own], numbered) if one not in names))
        return tuple(names[1:])

    def without_gates(self) -> "Objective":
        """The losses that the backbone learns from."""
        return Objective(tuple(term for term in self.terms if not trains_gates_alone(term[1])))

    @staticmethod
    def of(loss: "Addend") -> "Objective":
        """An objective of one loss, or the objective itself."""
        if isinstance(loss, Objective):
            return loss
        _check(loss)
        return Objective(((1.0, loss),))

    def __add__(self, other: "Addend") -> "Objective":
        return Objective(self.terms + Objective.of(other).terms)

    def __radd__(self, other: "Addend | Literal[0]") -> "Objective":
        # sum() begins with 0.
        return self if isinstance(other, int) and other == 0 else Objective.of(other) + self

    def __mul__(self, weight: float) -> "Objective":
        return Objective(tuple((_number(weight) * own, loss) for own, loss in self.terms))

    __rmul__ = __mul__


if TYPE_CHECKING:
    Addend: TypeAlias = Loss | Objective
else:
    # Anything may come: `Objective` refuses what is no loss, in one line.
    Addend = object


@dataclass(frozen=True)
class Named:
    """A loss under another name in records."""

    name: str
    loss: Loss

    @property
    def trains_gates_alone(self) -> bool:
        """As the loss itself says."""
        return trains_gates_alone(self.loss)

    def __call__(self, trace: TracedPass, labels: Any = None) -> Any:
        """Return what the loss does."""
        return self.loss(trace, labels)


def of(loss: Addend, name: str | None = None) -> Objective:
    """An objective of any loss, which adds and scales; `name` is what records call it.

    Example:
        >>> def late(trace, labels):
        ...     return trace.output.square().mean()
        >>> (0.1 * of(late)).names, of(late, "size").names
        (('late',), ('size',))
    """
    if name is None or isinstance(loss, Objective):
        return Objective.of(loss)
    _check(loss)
    return Objective.of(Named(name, loss))


def add(loss: Loss, other: Addend) -> Objective:
    """`loss + other`."""
    return Objective.of(loss) + other


def add_to(loss: Loss, other: Addend | Literal[0]) -> Objective:
    """`other + loss`."""
    return other + Objective.of(loss)


def scaled(loss: Loss, weight: float) -> Objective:
    """`weight * loss` and `loss * weight`."""
    return Objective(((_number(weight), loss),))


def is_loss(value: object) -> bool:
    """Whether a value can be called as a loss is: with a trace and labels."""
    if isinstance(value, type) or not callable(value):
        return False
    try:
        inspect.signature(getattr(value, "forward", value)).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        # Built-in functions may not tell what they take.
        return True
    return True


def need_labels(loss: str, labels: Any) -> Any:
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
    if isinstance(loss, Named):
        return loss.name
    name = getattr(loss, "__name__", type(loss).__name__)
    return "function" if name == "<lambda>" else str(name)


def _check(loss: object) -> None:
    """Refuse what is no loss where it is written, not in the first step of a training."""
    mend = "give losses such as losses.CrossEntropy(), or losses.of(function of trace and labels)"
    if isinstance(loss, type):
        raise FtwtError(
            f"Objective: {loss.__name__} is a class; give an instance, {loss.__name__}(...)"
        )
    came = " ".join(str(getattr(loss, "__name__", loss)).split())
    if not is_loss(loss):
        raise FtwtError(f"Objective: {came} is no loss of a trace and labels; {mend}")
    source = getattr(loss, "__module__", None) or ""
    if source.partition(".")[0] == "torch":
        raise FtwtError(
            f"Objective: {came} is torch's, which takes an output and labels, not a trace; give "
            "losses.of(lambda trace, labels: ...) that calls it with trace.output"
        )


def _scalar(name: str, value: Any) -> Float[Tensor, ""]:
    if not isinstance(value, Tensor) or value.dim():
        came = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise FtwtError(
            f"Objective: the loss {name} answers {came}, expected a tensor of one number; end it "
            "with .mean()"
        )
    return value
