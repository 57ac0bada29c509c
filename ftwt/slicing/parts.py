"""What joins the layers of a cut network where their channels differ."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ftwt.graph.channels import positions


class Append(nn.Module):
    """Channels that hold one number each, after those that were computed.

    Filters whose inputs are all dead: they answer their bias everywhere.
    """

    def __init__(self, values: Float[Tensor, "D"], rank: int) -> None:
        super().__init__()
        self.space = (1,) * (rank - 2)
        self.register_buffer("values", values)

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B E *space"]:
        """All channels."""
        flat = self.get_buffer("values").view(1, -1, *self.space)
        return torch.cat([x, flat + torch.zeros_like(x[:, :1])], 1)


class Filled(nn.Module):
    """One number for each channel, whatever the input: a layer that no live channel reaches."""

    def __init__(self, values: Float[Tensor, "C"], space: tuple[int, ...]) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("values", values)

    def forward(self, images: Float[Tensor, "B ..."]) -> Float[Tensor, "B C *space"]:
        """The numbers, once for each sample of `images`."""
        flat = self.get_buffer("values").view(1, -1, *[1] * len(self.space))
        # Memory of its own, as what reads it may work in place.
        return flat.repeat(images.shape[0], 1, *self.space)


class Scaled(nn.Module):
    """Each channel times a number plus another: a batch norm that no convolution took in."""

    def __init__(self, scale: Float[Tensor, "C"], shift: Float[Tensor, "C"], rank: int) -> None:
        super().__init__()
        self.space = (1,) * (rank - 2)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B C *space"]:
        """All channels."""
        scale, shift = (
            self.get_buffer(name).view(1, -1, *self.space) for name in ("scale", "shift")
        )
        return torch.addcmul(shift, x, scale)


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
