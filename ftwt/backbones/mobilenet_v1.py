"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861, table 1).

On 32x32 images the stem keeps the resolution (stride 1), which has none to spare; on ImageNet it
halves it, as published.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ftwt.backbones._build import check_width, he_init
from ftwt.errors import FtwtError, check_whole

_STEM = 32
# Output channels and stride of the depthwise separable blocks.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet_v1(width: float = 1.0, num_classes: int = 10, *, stem_stride: int = 1) -> nn.Module:
    """MobileNetV1; `width` multiplies the channels of every layer (the paper's alpha).

    `stem_stride` is 1 for CIFAR and 2 for ImageNet.
    """
    check_width("mobilenet_v1", width)
    check_whole("mobilenet_v1", "num_classes", num_classes)
    if stem_stride not in (1, 2):
        raise FtwtError(
            f"mobilenet_v1: stem_stride={stem_stride!r}; give 1 for CIFAR or 2 for ImageNet"
        )
    return MobileNetV1(width, num_classes, stem_stride)


class MobileNetV1(nn.Module):
    """A 3x3 stem, 13 depthwise separable blocks and a linear classifier."""

    def __init__(self, width: float, num_classes: int, stem_stride: int) -> None:
        super().__init__()
        channels = _scaled(_STEM, width)
        self.conv1 = nn.Conv2d(3, channels, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        blocks = []
        for base, stride in _BLOCKS:
            channels_in, channels = channels, _scaled(base, width)
            blocks.append(SeparableBlock(channels_in, channels, stride))
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        he_init(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B classes"]:
        """Class logits."""
        x = self.blocks(self.relu1(self.bn1(self.conv1(images))))
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits


class SeparableBlock(nn.Module):
    """A 3x3 depthwise convolution, then a 1x1 convolution, each with batch norm and ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Depthwise (`conv1`), then pointwise (`conv2`)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(x)))
        return out


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))
