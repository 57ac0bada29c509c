"""Channels picked and put back: the two moves that join layers of different widths."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def positions(indices: list[int]) -> Tensor:
    """Indices as index_select wants them."""
    return torch.tensor(indices, dtype=torch.long)


class Select(nn.Module):
    """Some of the channels, in the order given; or some places along another dimension."""

    def __init__(self, indices: list[int], dim: int = 1) -> None:
        super().__init__()
        self.indices, self.dim = indices, dim
        self.register_buffer("index", positions(indices), persistent=False)
        first, count = (indices or [0])[0], len(indices)
        # Neighbours need no copy.
        self.run = (first, count) if indices == list(range(first, first + count)) else None

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B D *space"]:
        """The chosen channels."""
        if self.run is not None:
            return x.narrow(self.dim, *self.run)
        return x.index_select(self.dim, self.get_buffer("index"))


class Spread(nn.Module):
    """Channels put back to where they were, zeros between them; -1 in `indices` is a zero."""

    def __init__(self, indices: list[int], rank: int) -> None:
        super().__init__()
        count = max(indices) + 1
        first = indices.index(0)
        after = len(indices) - first - count
        # Neighbours need no copy of their own.
        self.run = indices == [-1] * first + list(range(count)) + [-1] * after
        where = [count if one < 0 else one for one in indices]
        self.pad = (0, 0) * (rank - 2) + ((first, after) if self.run else (0, 1))
        self.register_buffer("index", positions(where), persistent=False)

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B D *space"]:
        """The channels among zeros."""
        padded = F.pad(x, self.pad)
        return padded if self.run else padded.index_select(1, self.get_buffer("index"))
