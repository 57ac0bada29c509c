"""Batch norm over images in a gate: it takes away what is the same for every image."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.errors import FtwtError


def batch_norm(normalize: str, values: int) -> nn.BatchNorm1d | None:
    """A gate's batch norm of so many values, if it wants one.

    Without parameters: the layer after it has weights and biases.
    """
    return nn.BatchNorm1d(values, affine=False) if normalize == "batch" else None


def normalized(
    norm: nn.BatchNorm1d, values: Float[Tensor, "B values"]
) -> Float[Tensor, "B values"]:
    """The values by the statistics of this batch, which the norm notes.

    Raises:
        FtwtError: a batch of one image has none.
    """
    if len(values) < 2:
        raise FtwtError(
            "a gate with normalize='batch' was trained on a batch of one image, which has no "
            "deviation; give batches of two or more, or call model.eval()"
        )
    kind = values.device.type if not values.is_meta else "cpu"
    with torch.autocast(kind, enabled=False):
        found: Tensor = norm(values.float())
    return found


def folded_linear(norm: nn.BatchNorm1d | None, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer that does what the norm, by its own statistics, did before it."""
    if norm is None:
        return layer.weight, layer.bias
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight = layer.weight * (variance + norm.eps).rsqrt()
    return weight, layer.bias - weight @ mean
