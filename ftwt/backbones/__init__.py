"""The paper's networks for 32x32 images; anything else comes from torchvision or timm.

Imports errors and io, where it registers how networks are made by name.
"""

from ftwt.backbones.mobilenet_v1 import mobilenet_v1
from ftwt.backbones.mobilenet_v2 import mobilenet_v2
from ftwt.backbones.resnet import resnet8, resnet20, resnet32, resnet44, resnet56, resnet110
from ftwt.backbones.vgg import vgg16_bn

__all__ = [
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet8",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "vgg16_bn",
]
