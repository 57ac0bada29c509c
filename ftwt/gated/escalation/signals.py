"""How sure a network is of its answer, told from the answer alone."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ftwt.errors import FtwtError, check_within

# Below 1, so that at a threshold of 1 every image goes on, however sure the answer.
_SUREST = math.nextafter(1.0, 0.0)
_NARROWINGS = 60


@runtime_checkable
class Signal(Protocol):
    """A function of the output of a batch of B samples: one number for each, larger is surer.

    Any function will do; one that is to be saved is a frozen dataclass that `ftwt.register` knows.
    It must not mix samples.
    """

    def __call__(self, output: Any) -> Float[Tensor, "B"]:
        """Return how sure each answer is."""
        ...


@dataclass(frozen=True)
class Margin:
    """The difference of the two largest probabilities, in [0, 1).

    Of logits (B, C), or of logits with positions behind, such as label maps (B, C, H, W), on
    average over these.
    """

    def __call__(self, output: Any) -> Float[Tensor, "B"]:
        """Return the margin of each sample."""
        largest = _log_probabilities("Margin", output).exp().topk(2, dim=1).values
        return _each(largest[:, 0] - largest[:, 1])


@dataclass(frozen=True)
class Confidence:
    """The largest probability, in [1 / C, 1); outputs as for `Margin`."""

    def __call__(self, output: Any) -> Float[Tensor, "B"]:
        """Return the confidence of each sample."""
        return _each(_log_probabilities("Confidence", output).exp().amax(1))


@dataclass(frozen=True)
class Entropy:
    """One less the entropy of the probabilities, as a share of its maximum log C, in [0, 1).

    1 is sure, like every signal. Outputs as for `Margin`.
    """

    def __call__(self, output: Any) -> Float[Tensor, "B"]:
        """Return how far each sample is from no idea at all."""
        logs = _log_probabilities("Entropy", output)
        entropy = -torch.xlogy(logs.exp(), logs.exp()).sum(1)
        return _each(1 - entropy / math.log(logs.shape[1]))


@dataclass(frozen=True)
class Temperature:
    """A signal of logits that are divided by `value` before (Guo et al., arXiv 1706.04599).

    Networks are mostly too sure of their answers (values above 1 mend that), and not equally so.
    `ftwt.budget.with_temperatures` finds the values.
    """

    signal: Signal
    value: float

    def __post_init__(self) -> None:
        mend = "give a positive number, or let ftwt.budget.with_temperatures find it"
        check_within("Temperature", "value", self.value, "(0, inf)", mend)

    def __call__(self, output: Any) -> Float[Tensor, "B"]:
        """Return the signal of the scaled logits."""
        if not isinstance(output, Tensor):
            raise FtwtError(
                f"Temperature: the network answers with a {type(output).__name__}; only logits "
                "can be scaled, give the signal without Temperature"
            )
        return self.signal(output.double() / self.value)


def likeliest_temperature(logits: Float[Tensor, "N C"], labels: Int[Tensor, "N"]) -> float:
    """The temperature under which the labels are the likeliest, from 1/32 to 32.

    The mean negative log-likelihood is convex in 1 / temperature, so that narrowing finds it.
    """
    logits = logits.double()

    def loss(power: float) -> float:
        return F.cross_entropy(logits * 2.0**-power, labels).item()

    low, high = -5.0, 5.0
    for _ in range(_NARROWINGS):
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    return math.exp2((low + high) / 2)


def _log_probabilities(called: str, output: Any) -> Float[Tensor, "B C *space"]:
    if not isinstance(output, Tensor) or not output.is_floating_point():
        what = f"{output.dtype} tensor" if isinstance(output, Tensor) else type(output).__name__
        raise FtwtError(
            f"{called}: the network answers with a {what}, not with logits (B, C); give escalate "
            "by=, a function of the output that returns one number for each sample, larger is surer"
        )
    if output.dim() < 2 or output.shape[1] < 2:
        raise FtwtError(
            f"{called}: the network's output has shape {tuple(output.shape)}, which has no two "
            "classes to tell apart; give escalate by=, a function of the output that returns "
            "one number for each sample, larger is surer"
        )
    return output.double().log_softmax(1)


def _each(values: Float[Tensor, "B *space"]) -> Float[Tensor, "B"]:
    means = values if values.dim() == 1 else values.flatten(1).mean(1)
    return means.clamp(0.0, _SUREST)
