"""Trainings on ImageNet.

FTWT (arXiv 2110.08232) starts from torchvision's weights and gives no hyper-parameters for
ImageNet. The method's (gates at lr 0.1 without weight decay, frozen after half of the epochs,
backbone at lr 0.01) are those of CIFAR; the rest is what these networks are usually trained with:
ResNets as in He et al. (arXiv 1512.03385, section 3.4), MobileNets along a cosine with the weight
decay of Sandler et al. (arXiv 1801.04381, section 6.1).
"""

from ftwt.data import ResizedCrop
from ftwt.training.optimizers import Cosine, Sgd, Steps, Warmup
from ftwt.training.recipes.parts import Serving, gated_recipe, plain_recipe
from ftwt.training.recipes.recipe import Overrides, Recipe

_SERVING = Serving(256, ResizedCrop(), fast=True)
_THIRDS = Steps((1 / 3, 2 / 3))
_COSINE = Sgd(0.1, schedule=Cosine())


def imagenet_dense(network: str, overrides: Overrides) -> Recipe:
    """ResNets from scratch: 90 epochs, lr 0.1 for 256 images, a tenth at each third."""
    backbone = Sgd(0.1, weight_decay=1e-4, schedule=_THIRDS)
    return plain_recipe(network, overrides, _SERVING, epochs=90, backbone=backbone)


def imagenet_dynamic(network: str, overrides: Overrides) -> Recipe:
    """From torchvision's weights: 90 epochs, lr 0.01; gates at lr 0.1, frozen after half."""
    backbone = Sgd(0.01, weight_decay=1e-4, schedule=_THIRDS)
    rate = Sgd(0.1, schedule=Steps((2 / 3,)))
    return gated_recipe(
        network, overrides, _SERVING, epochs=90, mass=0.95, backbone=backbone, gates_learn=rate
    )


def imagenet_finetune_dense(network: str, overrides: Overrides) -> Recipe:
    """More of the trained network: 20 epochs, lr 0.001, to compare fine-tuned gates with."""
    backbone = Sgd(0.001, weight_decay=1e-4, schedule=Cosine())
    return plain_recipe(network, overrides, _SERVING, epochs=20, backbone=backbone)


def imagenet_finetune_dynamic(network: str, overrides: Overrides) -> Recipe:
    """The fine-tuning variant, from torchvision's weights: 20 epochs, lr 0.001."""
    backbone = Sgd(0.001, weight_decay=1e-4, schedule=Cosine())
    return gated_recipe(
        network, overrides, _SERVING, epochs=20, mass=0.95, backbone=backbone, gates_learn=_COSINE
    )


def imagenet_mobile_dense(network: str, overrides: Overrides) -> Recipe:
    """MobileNets from scratch: 150 epochs, lr 0.05 for 256 images, along a cosine."""
    backbone = Sgd(0.05, weight_decay=4e-5, schedule=Warmup(Cosine()))
    return plain_recipe(network, overrides, _SERVING, epochs=150, backbone=backbone)


def imagenet_mobile_dynamic(network: str, overrides: Overrides) -> Recipe:
    """MobileNets from trained weights: 90 epochs, lr 0.01 and gates lr 0.1, along a cosine."""
    backbone = Sgd(0.01, weight_decay=4e-5, schedule=Cosine())
    return gated_recipe(
        network, overrides, _SERVING, epochs=90, mass=0.95, backbone=backbone, gates_learn=_COSINE
    )
