"""A strategy for random networks: chains, residual blocks, depthwise and grouped convolutions,
strides, concatenation, shuffles, squeeze-excitation, pooling and flattening into a classifier."""

from collections.abc import Callable

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import ftwt
from tests.laws.blocks import BLOCKS

CHANNELS = 3
CLASSES = 5


def _conv(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1):
    return nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=groups == 1
    )


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, groups, norm, act):
        super().__init__()
        self.conv = _conv(inputs, outputs, kernel=kernel, stride=stride, groups=groups)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class FunctionalBlock(nn.Module):
    """Functional and method forms, a bias instead of a norm."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = _conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)).clone().contiguous()


class Residual(nn.Module):
    """Two convolutions and an addition; a padded, strided identity where the shape changes."""

    def __init__(self, inputs, outputs, stride, inplace):
        super().__init__()
        self.conv1, self.norm1 = _conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = _conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.stride, self.extra, self.inplace = stride, outputs - inputs, inplace

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        identity = x[:, :, :: self.stride, :: self.stride]
        half = self.extra // 2
        identity = F.pad(identity, (0, 0, 0, 0, half, self.extra - half))
        if self.inplace:
            out += identity
            return out.relu_()
        return torch.relu(torch.add(out, identity))


class Projected(nn.Module):
    """A residual block with a convolution as its shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.norm1 = _conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = _conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.short = _conv(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(self.short(x) + out)


class Branches(nn.Module):
    """Two branches that are concatenated, then shuffled."""

    def __init__(self, inputs, outputs, shuffle):
        super().__init__()
        self.one = _conv(inputs, outputs // 2, kernel=1)
        self.two = _conv(inputs, outputs - outputs // 2)
        self.shuffle = shuffle and outputs % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        out = torch.cat([F.relu(self.one(x)), F.relu6(self.two(x))], dim=1)
        if self.shuffle:
            batch, channels, height, width = out.shape
            out = out.view(batch, 2, channels // 2, height, width).transpose(1, 2)
            out = out.reshape(batch, channels, height, width)
        return out


class Split(nn.Module):
    """Half of the channels pass by the convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv = _conv(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x.chunk(2, dim=1)
        return torch.cat((kept, F.relu(self.conv(worked))), 1)


class Excite(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels):
        super().__init__()
        self.conv = _conv(channels, channels)
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.conv(x))
        scale = out.mean((2, 3), keepdim=True)
        return out * torch.sigmoid(self.up(F.relu(self.down(scale))))


class Network(nn.Module):
    def __init__(self, blocks: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.blocks, self.head = nn.Sequential(*blocks), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x))


_KINDS = (
    "conv", "grouped", "depthwise", "functional", "residual", "projected", "branches", "split",
    "excite", "pool", "dropout", *BLOCKS,
)  # fmt: skip
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Identity, nn.Sigmoid, nn.Hardsigmoid, nn.Hardtanh,
    nn.GELU, nn.LeakyReLU, nn.PReLU, nn.Softplus,
)  # fmt: skip


def examples(share: float) -> settings:
    """Settings of a law that attaches networks: a share of the examples that other laws take.

    One network takes as long as a hundred tensors; `FTWT_EXAMPLES=400` makes a long run of all.
    """
    return settings(max_examples=max(1, round(share * settings.default.max_examples)))


@st.composite
def networks(draw: Callable, *, most: int = 4) -> nn.Module:
    """A random network on (B, 3, side, side) inputs with side >= 8, in eval mode."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    first = draw(st.sampled_from([4, 6, 8]))
    blocks: list[nn.Module] = [ConvBlock(CHANNELS, first, 3, 1, 1, True, nn.ReLU)]
    channels = first
    strides = 0
    for _ in range(draw(st.integers(1, most))):
        stride = draw(st.sampled_from([1, 2])) if strides < 2 else 1
        strides += stride - 1
        wider = channels + 2 * draw(st.integers(0, 2))
        kind = draw(st.sampled_from(_KINDS))
        act = draw(st.sampled_from(_ACTIVATIONS))
        norm = draw(st.booleans())
        match kind:
            case "conv":
                kernel = draw(st.sampled_from([1, 3, 5]))
                blocks.append(ConvBlock(channels, wider, kernel, stride, 1, norm, act))
            case "grouped":
                blocks.append(ConvBlock(channels, 2 * channels, 3, stride, 2, norm, act))
                wider = 2 * channels
            case "depthwise":
                blocks.append(ConvBlock(channels, channels, 3, stride, channels, norm, act))
                wider = channels
            case "functional":
                blocks.append(FunctionalBlock(channels, wider))
            case "residual":
                blocks.append(Residual(channels, wider, stride, draw(st.booleans())))
            case "projected":
                blocks.append(Projected(channels, wider, stride))
            case "branches":
                blocks.append(Branches(channels, wider, draw(st.booleans())))
            case "split":
                blocks.append(Split(channels))
                wider = channels
            case "excite":
                blocks.append(Excite(channels))
                wider = channels
            case "pool":
                pool = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
                blocks.append(pool(3, stride=1, padding=1))
                wider = channels
            case "dropout":
                blocks.append(nn.Dropout(0.2))
                wider = channels
            case _:
                blocks.append(kind(channels))
                wider = channels
        channels = wider
    blocks.append(ConvBlock(channels, 4, 3, 1, 1, True, nn.ReLU))
    if draw(st.booleans()):
        head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES))
    else:
        head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    network = Network(blocks, head)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.bias, -1, 1)
        if isinstance(module, nn.BatchNorm2d):
            # A fresh batch norm maps zero to zero, which would hide what a real one does.
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -1, 1)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@st.composite
def images(draw: Callable, *, most: int = 4) -> Tensor:
    """A random batch."""
    side = draw(st.sampled_from([8, 9, 12]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return torch.randn(draw(st.integers(1, most)), CHANNELS, side, side, generator=generator)


def random_masks(model, batch: int, seed: int, share: float) -> dict[str, Tensor]:
    """Random masks for each site; any number of filters, none included."""
    generator = torch.Generator().manual_seed(seed)
    return {
        gate.site.name: torch.rand(batch, gate.site.out_channels, generator=generator) < share
        for gate in model.gates.values()
    }


def backbone(name: str) -> tuple[nn.Module, Tensor]:
    """A network by name in eval mode, with norms that shift, and two small images for it."""
    torch.manual_seed(0)
    network = ftwt.networks.build(name).eval()
    if name.startswith("torchvision:vgg"):
        # Nine tenths of its weights, which no mask reaches.
        network.classifier[0] = nn.Linear(network.classifier[0].in_features, 64)
        network.classifier[3] = nn.Linear(64, 64)
        network.classifier[6] = nn.Linear(64, 1000)
        network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.5, 0.5)
    side = 32 if name.startswith("cifar") else 64
    return network, torch.randn(2, 3, side, side)


def torch_macs(network, example) -> int:
    """MACs of one sample, by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(example[:1])
    return counter.get_total_flops() // 2
