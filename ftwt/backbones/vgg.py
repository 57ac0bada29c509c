"""VGG-16 with batch norm for 32x32 images (Simonyan and Zisserman 2015, arXiv 1409.1556, column D).

One linear layer replaces the three of the paper, as usual for CIFAR. The convolutions keep the
biases of the paper, although the batch norms make them redundant: the parameter count that
publications print includes them.
"""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn

from ftwt.backbones._build import he_init
from ftwt.errors import check_whole

# Output channels of the 3x3 convolutions, by stage; a 2x2 max pooling ends each stage.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16_bn(num_classes: int = 10) -> nn.Module:
    """VGG-16 with batch norm: 13 convolutions and one linear layer."""
    check_whole("vgg16_bn", "num_classes", num_classes)
    return VGG(num_classes)


class VGG(nn.Module):
    """`features` numbers its layers as torchvision's vgg16_bn does; `classifier` is one layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*_layers())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_STAGES[-1][-1], num_classes)
        he_init(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B classes"]:
        """Class logits."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits


def _layers() -> Iterator[nn.Module]:
    channels_in = 3
    for stage in _STAGES:
        for channels in stage:
            yield nn.Conv2d(channels_in, channels, 3, padding=1)
            yield nn.BatchNorm2d(channels)
            yield nn.ReLU()
            channels_in = channels
        yield nn.MaxPool2d(2)
