"""How a gate summarises its input: one number for each channel."""

from collections.abc import Callable, Mapping
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ftwt.errors import FtwtError

Pool = Literal["max", "mean"]
Normalize = Literal["softmax", "layer", "none"]

POOLS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max": lambda features: features.flatten(2).amax(2),
    "mean": lambda features: features.flatten(2).mean(2),
}
NORMALIZERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    # float32 also under autocast: a softmax over hundreds of channels underflows in half precision.
    "softmax": lambda pooled: pooled.float().softmax(1),
    "layer": lambda pooled: F.layer_norm(pooled.float(), pooled.shape[1:]),
    "none": lambda pooled: pooled.float(),
}


def check_pooling(gate: str, pool: str, normalize: str) -> None:
    """Raise FtwtError unless both names are known."""
    if pool not in POOLS:
        raise FtwtError(f"{gate}: pool={pool!r} is unknown; use one of {', '.join(POOLS)}")
    if normalize not in NORMALIZERS:
        raise FtwtError(
            f"{gate}: normalize={normalize!r} is unknown; use one of {', '.join(NORMALIZERS)}"
        )


def summarize(
    inputs: Float[Tensor, "B C *space"], pool: str, normalize: str
) -> Float[Tensor, "B C"]:
    """Pool each channel over space, if any is left, then normalise over channels."""
    return NORMALIZERS[normalize](POOLS[pool](inputs) if inputs.dim() > 2 else inputs)
