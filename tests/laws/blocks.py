"""More blocks of random networks, each from C to C channels: the forms that libraries use."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth, stochastic_depth


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)


class PreActivation(_Block):
    """Batch norm and a shared activation come first."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(F.relu(self.norm(self.one(F.relu(x)))))


class Twice(_Block):
    """One convolution at two places."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.one(F.relu(self.norm(self.one(x)))))


class InPlace(_Block):
    """Tensors that are changed and read again under an old name, and through views."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.one(x)), F.relu(self.two(x))
        view = a[:, : a.shape[1] // 2]
        a.add_(b)
        b.mul_(a)
        return torch.cat([view, b[:, b.shape[1] // 2 :]], 1)


class Padded(_Block):
    """Padding and interpolation as functions; a slice of the space."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        x = F.conv2d(F.pad(F.relu(self.one(x)), (1, 1, 1, 1)), self.two.weight)
        x = F.interpolate(F.relu_(x), scale_factor=2.0)[:, :, ::2, 1:]
        return F.adaptive_avg_pool2d(x, size)


class Radix(_Block):
    """Split attention: channels in groups, weighed and summed."""

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([F.relu(self.one(x)), F.relu(self.two(x))], 1)
        batch, channels, height, width = both.shape
        both = both.reshape(batch, 2, channels // 2, height, width)
        scale = both.sum(1).mean((2, 3), keepdim=True).sigmoid()
        weight = torch.softmax(torch.stack([scale, 1 - scale], 1), 1)
        return (both * weight).sum(dim=1)


class ChannelsLast(_Block):
    """A layer norm over channels at the end, a scale for each channel, stochastic depth."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.layer_norm = nn.LayerNorm(channels)
        self.scale = nn.Parameter(torch.rand(channels, 1, 1))
        self.drop = StochasticDepth(0.3, "row")

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.one(x)).permute(0, 2, 3, 1)
        y = self.layer_norm(y).permute(0, 3, 1, 2)
        y = self.drop(self.scale * F.gelu(self.two(y)))
        return x + stochastic_depth(y, 0.2, "batch", self.training)


class Methods(_Block):
    """Methods and functions instead of modules and operators."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x).relu().mul(0.5).add(F.hardtanh(self.two(x)))
        y = torch.clamp(y, -1.0, 6.0).pow(2).div(2).sqrt()
        return torch.maximum(y, F.normalize(x, dim=1)).abs().neg()


class Unknown(_Block):
    """An operation that the analysis has no rule for, and functional dropout."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sinc(F.relu(self.one(x)))
        return F.relu(self.two(F.dropout(F.relu(y), 0.2, self.training)))


class Shuffled(_Block):
    """Groups, padding with channels of zeros, a flip, and channels taken by stride."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(F.relu(self.one(x)), (0, 0, 0, 0, 1, 1))[:, 1:-1]
        y = torch.cat([y[:, ::2], y[:, 1::2]], 1).flip(1)
        left, right = torch.split(y, [1, y.shape[1] - 1], dim=1)
        return F.max_pool2d(F.relu(self.two(torch.cat((right, left), 1))), 3, 1, 1)


class Summed(_Block):
    """A sum of branches that starts at 0, and a division by what is never zero."""

    def forward(self, x: Tensor) -> Tensor:
        total = 0
        for branch in (self.one, self.two):
            total += branch(x)
        total = F.relu(total - 0)
        scale = total.square().mean((2, 3), keepdim=True).add(0.1)
        return total * torch.rsqrt(scale) + total / scale


BLOCKS = (
    PreActivation, Twice, InPlace, Padded, Radix, ChannelsLast, Methods, Unknown, Shuffled, Summed,
)  # fmt: skip
