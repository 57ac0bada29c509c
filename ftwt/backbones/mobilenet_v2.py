"""MobileNetV2 for 32x32 images (Sandler et al. 2018, arXiv 1801.04381, table 2).

Two changes against the paper, those of the variant with 2,296,922 parameters that CIFAR results
are published on: the stem and the 24-channel stage keep the resolution (stride 1), and every
stride-1 block has a shortcut: a 1x1 convolution with batch norm where the channel count changes.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ftwt.backbones._build import check_width, he_init
from ftwt.errors import check_whole

_STEM = 32
_HEAD = 1280
# Expansion, output channels, blocks and stride of the first block, by stage.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(width: float = 1.0, num_classes: int = 10) -> nn.Module:
    """MobileNetV2; `width` multiplies the channels, and those of the head only above 1."""
    check_width("mobilenet_v2", width)
    check_whole("mobilenet_v2", "num_classes", num_classes)
    return MobileNetV2(width, num_classes)


class MobileNetV2(nn.Module):
    """A 3x3 stem, 17 inverted residual blocks, a 1x1 head and a linear classifier."""

    def __init__(self, width: float, num_classes: int) -> None:
        super().__init__()
        channels = _scaled(_STEM, width)
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU6()
        blocks = []
        for expansion, base, repeats, first_stride in _STAGES:
            for stride in (first_stride, *(1,) * (repeats - 1)):
                channels_in, channels = channels, _scaled(base, width)
                blocks.append(InvertedResidual(channels_in, channels, expansion, stride))
        self.blocks = nn.Sequential(*blocks)
        # A narrow network keeps the full head (section 5 of the paper).
        head = _scaled(_HEAD, max(1.0, width))
        self.conv2 = nn.Conv2d(channels, head, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(head)
        self.relu2 = nn.ReLU6()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(head, num_classes)
        he_init(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B classes"]:
        """Class logits."""
        x = self.blocks(self.relu1(self.bn1(self.conv1(images))))
        x = self.relu2(self.bn2(self.conv2(x)))
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection, and a shortcut where stride is 1."""

    def __init__(self, channels_in: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.conv1 = nn.Conv2d(channels_in, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.relu1 = nn.ReLU6()
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.relu2 = nn.ReLU6()
        self.conv3 = nn.Conv2d(hidden, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(channels_in, channels) if stride == 1 else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Expand, filter, project, and add the shortcut."""
        branch = self.relu1(self.bn1(self.conv1(x)))
        branch = self.relu2(self.bn2(self.conv2(branch)))
        out: Tensor = self.bn3(self.conv3(branch))
        return out if self.shortcut is None else out + self.shortcut(x)


def _shortcut(channels_in: int, channels: int) -> nn.Module:
    if channels_in == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels))


def _scaled(channels: int, width: float) -> int:
    """Scale to a multiple of 8, by default the nearest, that keeps 90 % of the exact value."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8
