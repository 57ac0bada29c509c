"""A site's mask on its output, as one operation with a ReLU before it where that is right."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ftwt.graph import operations
from ftwt.graph.insertion import RELU

# What is still to be applied to a site's features: the network's module, or torch's function.
Relu: TypeAlias = Callable[[Tensor], Tensor]


def is_plain(relu: Relu | None) -> bool:
    """Whether this is a ReLU and nothing else: no hook watches it."""
    if isinstance(relu, nn.Module):
        return type(relu) is nn.ReLU and not operations.hooked(relu)
    return relu is RELU


def activated(
    features: Float[Tensor, "B C *space"], relu: Relu | None = None
) -> Float[Tensor, "B C *space"]:
    """The features after the ReLU that a site's gate is given with them."""
    return features if relu is None else relu(features)


def masked(features: Shaped[Tensor, "B C *space"], weight: Shaped[Tensor, "B C"]) -> Tensor:
    """The product features * weight, in the precision of the features."""
    return features * _spread(weight, features)


def masked_relu(
    features: Float[Tensor, "B C *space"],
    rectified: Float[Tensor, "B C *space"],
    weight: Float[Tensor, "B C"],
) -> Float[Tensor, "B C *space"]:
    """relu(features) * weight, with relu(features) given, which is overwritten.

    The weight is of zeros and ones and gets no gradient.
    """
    answer: Tensor = _MaskedRelu.apply(features, rectified, _spread(weight, features))
    return answer


def _spread(weight: Tensor, features: Tensor) -> Tensor:
    space = (1,) * (features.dim() - 2)
    return weight.to(features.dtype).view(*weight.shape, *space)


class _MaskedRelu(torch.autograd.Function):
    """A ReLU and a mask of zeros and ones keep one tensor between them, and write it twice.

    Where it is not positive, either of them lets no gradient through; elsewhere both do.
    """

    @staticmethod
    def forward(features: Tensor, rectified: Tensor, weight: Tensor) -> Tensor:
        return rectified.mul_(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.mark_dirty(inputs[1])
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (masked,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], masked, 0), None, None
