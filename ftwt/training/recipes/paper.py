"""The paper's trainings on CIFAR (FTWT, arXiv 2110.08232, section 4 and supplement).

Steps are at epochs 81, 122 and 151 of 200, here as fractions, so that fewer epochs keep the shape.
"""

from ftwt.training.optimizers import Cosine, Sgd, Steps
from ftwt.training.recipes.parts import Serving, gated_recipe, plain_recipe
from ftwt.training.recipes.recipe import Overrides, Recipe

_SERVING = Serving()
_STEPS = Steps((81 / 200, 122 / 200, 151 / 200))
# Gates train in the first 100 of 200 epochs, and see the step at 81.
_GATES = Sgd(0.1, schedule=Steps((81 / 100,)))


def cifar_dense(network: str, overrides: Overrides) -> Recipe:
    """The baseline: 200 epochs from scratch, lr 0.1 in three steps."""
    backbone = Sgd(0.1, weight_decay=5e-4, schedule=_STEPS)
    return plain_recipe(network, overrides, _SERVING, epochs=200, backbone=backbone)


def cifar_dynamic(network: str, overrides: Overrides) -> Recipe:
    """From the baseline: 200 epochs, lr 0.01; gates learn at lr 0.1, frozen after half of them."""
    backbone = Sgd(0.01, weight_decay=5e-4, schedule=_STEPS)
    return gated_recipe(
        network, overrides, _SERVING, epochs=200, mass=0.9, backbone=backbone, gates_learn=_GATES
    )


def cifar_finetune_dense(network: str, overrides: Overrides) -> Recipe:
    """More of the baseline: 50 epochs, lr 0.001, to compare fine-tuned gates with."""
    backbone = Sgd(0.001, weight_decay=5e-4, schedule=_STEPS)
    return plain_recipe(network, overrides, _SERVING, epochs=50, backbone=backbone)


def cifar_finetune_dynamic(network: str, overrides: Overrides) -> Recipe:
    """The fine-tuning variant, from the baseline: 50 epochs, lr 0.001; gates as in the long one."""
    backbone = Sgd(0.001, weight_decay=5e-4, schedule=_STEPS)
    return gated_recipe(
        network, overrides, _SERVING, epochs=50, mass=0.9, backbone=backbone, gates_learn=_GATES
    )


def cifar_cosine_dense(network: str, overrides: Overrides) -> Recipe:
    """MobileNetV2's baseline: 200 epochs from scratch, lr 0.1 along a cosine."""
    backbone = Sgd(0.1, weight_decay=5e-4, schedule=Cosine())
    return plain_recipe(network, overrides, _SERVING, epochs=200, backbone=backbone)


def cifar_cosine_dynamic(network: str, overrides: Overrides) -> Recipe:
    """MobileNetV2 from its baseline: as `cifar_dynamic`, with both rates along a cosine."""
    backbone = Sgd(0.01, weight_decay=5e-4, schedule=Cosine())
    rate = Sgd(0.1, schedule=Cosine())
    return gated_recipe(
        network, overrides, _SERVING, epochs=200, mass=0.9, backbone=backbone, gates_learn=rate
    )
