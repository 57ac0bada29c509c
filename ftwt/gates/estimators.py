"""Estimators: how a gate's logits become a mask, and what gradient flows back."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Hard:
    """Threshold without gradient, as in FTWT: the task's loss never reaches the gate."""

    def __call__(self, logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """Return [logit > 0], that is [sigmoid(logit) > 0.5]."""
        return (logits.detach() > 0).to(logits.dtype)


@dataclass(frozen=True)
class StraightThrough:
    """Threshold in the forward pass, the sigmoid's gradient in the backward pass.

    Bengio et al., "Estimating or propagating gradients through stochastic neurons"
    (arXiv 1308.3432).
    """

    def __call__(self, logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """Return [logit > 0] with the gradient of sigmoid(logit)."""
        if not torch.is_grad_enabled():
            return Hard()(logits)
        soft = torch.sigmoid(logits)
        # soft - soft is exactly zero, so the forward value stays exactly 0 or 1.
        return Hard()(logits) + (soft - soft.detach())
