"""How a gate summarises its input: a number or two for each channel."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ftwt.errors import check_choice

PoolKind = Literal["max", "mean", "mean_std"]
Normalize = Literal["softmax", "layer", "batch", "none"]


def _mean_std(features: Tensor) -> Tensor:
    flat = features.flatten(2)
    mean = flat.mean(2, keepdim=True)
    # A norm has a gradient, zero, where all is the same; a variance's root has none.
    deviation = torch.linalg.vector_norm(flat - mean, dim=2) / flat.shape[2] ** 0.5
    return torch.cat([mean.squeeze(2), deviation], 1)


POOLS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max": lambda features: features.flatten(2).amax(2),
    "mean": lambda features: features.flatten(2).mean(2),
    "mean_std": _mean_std,
}
NORMALIZERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    # float32 also under autocast: a softmax over hundreds of channels underflows in half precision.
    "softmax": lambda pooled: pooled.float().softmax(1),
    "layer": lambda pooled: F.layer_norm(pooled.float(), pooled.shape[1:]),
    # Batch norm has a state, so it is the gate's own module.
    "batch": lambda pooled: pooled.float(),
    "none": lambda pooled: pooled.float(),
}


def check_pooling(gate: str, pool: str, normalize: str) -> None:
    """Raise FtwtError unless both names are known."""
    check_choice(gate, "pool", pool, POOLS)
    check_choice(gate, "normalize", normalize, NORMALIZERS)


def values_of(pool: str) -> int:
    """How many numbers a pooling leaves of a channel."""
    return 2 if pool == "mean_std" else 1


def summarize(
    inputs: Float[Tensor, "B C *space"], pool: str, normalize: str
) -> Float[Tensor, "B values"]:
    """Pool each channel over space, if any is left, then normalise over channels.

    With "mean_std" all means come before all standard deviations, which are those of the pixels as
    they are, not of a sample from more.
    """
    return NORMALIZERS[normalize](POOLS[pool](inputs if inputs.dim() > 2 else inputs[..., None]))
