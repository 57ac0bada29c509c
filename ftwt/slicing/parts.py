"""What joins the layers of a cut network where their channels differ."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def positions(indices: list[int]) -> Tensor:
    """Indices as index_select wants them."""
    return torch.tensor(indices, dtype=torch.long)


class Select(nn.Module):
    """Some of the channels, in the order given."""

    def __init__(self, indices: list[int]) -> None:
        super().__init__()
        self.indices = indices
        self.register_buffer("index", positions(indices), persistent=False)
        first, count = indices[0], len(indices)
        # Neighbours need no copy.
        self.run = (first, count) if indices == list(range(first, first + count)) else None

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B D *space"]:
        """The chosen channels."""
        if self.run is not None:
            return x.narrow(1, *self.run)
        return x.index_select(1, self.get_buffer("index"))


class Spread(nn.Module):
    """Channels put back to where they were, zeros between them; -1 in `indices` is a zero."""

    def __init__(self, indices: list[int], rank: int) -> None:
        super().__init__()
        count = max(indices) + 1
        where = [count if one < 0 else one for one in indices]
        self.pad = (0, 0) * (rank - 2) + (0, 1)
        self.register_buffer("index", positions(where), persistent=False)

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B D *space"]:
        """The channels among zeros."""
        return F.pad(x, self.pad).index_select(1, self.get_buffer("index"))


class Append(nn.Module):
    """Channels that hold one number each, after those that were computed.

    Filters whose inputs are all dead: they answer their bias everywhere.
    """

    def __init__(self, values: Float[Tensor, "D"]) -> None:
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B E *space"]:
        """All channels."""
        values = self.get_buffer("values")
        flat = values.view(1, -1, *[1] * (x.dim() - 2))
        return torch.cat([x, flat.expand(x.shape[0], -1, *x.shape[2:])], 1)


class Constant(nn.Module):
    """One number for each channel, whatever the input: a layer that no live channel reaches."""

    def __init__(self, values: Float[Tensor, "C"], space: tuple[int, ...]) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("values", values)

    def forward(self, images: Float[Tensor, "B ..."]) -> Float[Tensor, "B C *space"]:
        """The numbers, once for each sample of `images`."""
        flat = self.get_buffer("values").view(1, -1, *[1] * len(self.space))
        return flat.expand(images.shape[0], -1, *self.space)


class UnionAdd(nn.Module):
    """The sum of two tensors with different channels.

    Channel i of the second belongs at `places[i]` of the sum; the first comes first there, and
    `more` channels come after it. `inplace` adds into the first, where nothing else reads it.
    """

    def __init__(self, places: list[int], more: int, rank: int) -> None:
        super().__init__()
        self.inplace = False
        self.pad = (0, 0) * (rank - 2) + (0, more)
        self.more = more
        self.register_buffer("index", positions(places), persistent=False)

    def forward(
        self, one: Float[Tensor, "B C *space"], two: Float[Tensor, "B D *space"]
    ) -> Float[Tensor, "B E *space"]:
        """The sum over the union of the channels."""
        index = self.get_buffer("index")
        if self.more:
            return F.pad(one, self.pad).index_add_(1, index, two)
        if self.inplace:
            return one.index_add_(1, index, two)
        return one.index_add(1, index, two)
