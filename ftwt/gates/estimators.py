"""Estimators: how a gate's logits become a mask, and what gradient flows back."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ftwt.errors import check_within


@dataclass(frozen=True)
class Hard:
    """Threshold without gradient, as in FTWT: the task's loss never reaches the gate."""

    compares: ClassVar[bool] = True
    constant: ClassVar[bool] = True

    def weights(
        self, logits: Float[Tensor, "B C"], *, training: bool = False
    ) -> Float[Tensor, "B C"]:
        """Return [logit > 0], that is [sigmoid(logit) > 0.5]."""
        return _step(logits)

    __call__ = weights


@dataclass(frozen=True)
class StraightThrough:
    """Threshold in the forward pass, the sigmoid's gradient in the backward pass.

    Bengio et al., "Estimating or propagating gradients through stochastic neurons"
    (arXiv 1308.3432).
    """

    compares: ClassVar[bool] = True

    def weights(
        self, logits: Float[Tensor, "B C"], *, training: bool = False
    ) -> Float[Tensor, "B C"]:
        """Return [logit > 0] with the gradient of sigmoid(logit)."""
        return _straight_through(_step(logits), logits)

    __call__ = weights


@dataclass(frozen=True)
class Gumbel:
    """In training a random threshold, so that filters near the boundary are tried both on and off.

    With u uniform in (0, 1) and L = log(u) - log(1 - u), the difference of two Gumbel variables,
    the forward value is [logit + L > 0], which is 1 with probability sigmoid(logit), and the
    gradient that of sigmoid((logit + L) / temperature). Jang et al. (arXiv 1611.01144) and
    Maddison et al. (arXiv 1611.00712), with straight-through.

    In evaluation it is `Hard`. Noise comes from torch's global generator: `torch.manual_seed`.
    """

    temperature: float = 1.0

    compares: ClassVar[bool] = True

    def __post_init__(self) -> None:
        mend = "give a positive number, for example 1.0"
        check_within("Gumbel", "temperature", self.temperature, "(0, inf)", mend)

    def weights(
        self, logits: Float[Tensor, "B C"], *, training: bool = False
    ) -> Float[Tensor, "B C"]:
        """Return a mask drawn with probabilities sigmoid(logit); in evaluation [logit > 0]."""
        if not training:
            return _step(logits)
        # In float32 and away from 0 and 1, whose logits are infinite.
        uniform = torch.rand(logits.shape, device=logits.device).clamp(1e-6, 1 - 1e-6)
        noisy = logits + torch.logit(uniform)
        return _straight_through(_step(noisy), noisy / self.temperature)

    __call__ = weights


def _step(logits: Tensor) -> Tensor:
    """[logit > 0] without gradient; NaN where the logit is.

    A gate that answers NaN must show in the output and raise in the count of MACs, where filters
    turned off by a comparison with NaN would pass as savings.
    """
    value = logits.detach()
    return (value > 0).to(value.dtype) + value.clamp(0, 0)


def _straight_through(hard: Tensor, logits: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return hard
    soft = torch.sigmoid(logits)
    # soft - soft is exactly zero, so the forward value stays exactly 0 or 1.
    return hard + (soft - soft.detach())
