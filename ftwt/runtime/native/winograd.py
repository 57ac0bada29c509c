"""Where 3x3 convolutions multiply half as often, by Winograd's F(4, 3): see `src/winograd.h`."""

import torch
from jaxtyping import Float
from torch import Tensor

from ftwt.runtime.program import Conv

# Rows of kernels at the points 0, 1, -1, 2, -2 and infinity, as `src/winograd.h` combines them.
_POINTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
# Each input and each filter is transformed, whatever becomes of it, and small planes leave lanes of
# vectors empty.
_FEWEST_CHANNELS, _SMALLEST = 8, 7
# Weights become twice as many. Where a position of the batch meets more than so many of them,
# reading them takes longer than what is multiplied less.
_MOST_WEIGHTS = 1 << 17


def halves(step: Conv, batch: int) -> bool:
    """Whether a convolution of so many samples is faster by Winograd's algorithm, as measured."""
    filters, channels, *kernel = step.weight.shape
    height, width = step.source.shape[1:]
    plain = step.stride == step.padding == step.dilation == (1, 1) and step.groups == 1
    weights = filters * channels * len(_POINTS) * 3
    return (
        plain
        and kernel == [3, 3]
        and min(filters, channels) >= _FEWEST_CHANNELS
        and min(height, width) >= _SMALLEST
        and weights <= _MOST_WEIGHTS * height * width * batch
    )


def tall(weight: Float[Tensor, "C_out C_in 3 3"]) -> Float[Tensor, "C_out 6 C_in 3"]:
    """Combinations of the rows of 3x3 kernels, one for each point."""
    points = torch.tensor(_POINTS, dtype=torch.float64)
    return torch.einsum("pr,oirc->opic", points, weight.to(torch.float64)).float().contiguous()
