"""ResNets for 32x32 images (He et al. 2016, arXiv 1512.03385, section 4.2).

Parameter names follow torchvision: `conv1`, `bn1`, `layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}`, `fc`.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.backbones._build import he_init
from ftwt.errors import check_whole


def resnet8(num_classes: int = 10) -> nn.Module:
    """ResNet-8, one block per stage: small enough to train in a demo."""
    return _resnet("resnet8", 1, num_classes)


def resnet20(num_classes: int = 10) -> nn.Module:
    """ResNet-20, 3 blocks per stage."""
    return _resnet("resnet20", 3, num_classes)


def resnet32(num_classes: int = 10) -> nn.Module:
    """ResNet-32, 5 blocks per stage."""
    return _resnet("resnet32", 5, num_classes)


def resnet44(num_classes: int = 10) -> nn.Module:
    """ResNet-44, 7 blocks per stage."""
    return _resnet("resnet44", 7, num_classes)


def resnet56(num_classes: int = 10) -> nn.Module:
    """ResNet-56, 9 blocks per stage."""
    return _resnet("resnet56", 9, num_classes)


def resnet110(num_classes: int = 10) -> nn.Module:
    """ResNet-110, 18 blocks per stage."""
    return _resnet("resnet110", 18, num_classes)


class ResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels at 32x32, 16x16 and 8x8, then a linear classifier."""

    def __init__(self, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.fc = nn.Linear(64, num_classes)
        he_init(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B classes"]:
        """Class logits."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - channels_in

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """The branch plus the shortcut, rectified."""
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        # Plain attributes decide here, never the input, so that the network stays traceable.
        if self.stride == 1 and self.new_channels == 0:
            return F.relu(branch + x)
        return F.relu(branch + _shortcut(x, self.stride, self.new_channels))


def _shortcut(
    x: Float[Tensor, "B C H W"], stride: int, new_channels: int
) -> Float[Tensor, "B D h w"]:
    """Option A: every stride-th pixel, and zero channels, half before the old ones, half after."""
    before = new_channels // 2
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, before, new_channels - before))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def _resnet(called: str, blocks: int, num_classes: int) -> ResNet:
    check_whole(called, "num_classes", num_classes)
    return ResNet(blocks, num_classes)
