"""Trainings of minutes: a few epochs from given weights, and the demo's small network."""

from ftwt.training.optimizers import OneCycle, Sgd
from ftwt.training.recipes.parts import Serving, gated_recipe, plain_recipe
from ftwt.training.recipes.recipe import Overrides, Recipe

_SERVING = Serving(fast=True)
_SMALL = Serving(batch_size=64, fast=True)
_GATES = Sgd(0.1, schedule=OneCycle(warmup=0.1))


def short_dense(network: str, overrides: Overrides) -> Recipe:
    """Fine-tune a dense network from given weights in a few epochs: one cycle, lr 0.02."""
    backbone = Sgd(0.02, weight_decay=5e-4, schedule=OneCycle())
    return plain_recipe(network, overrides, _SERVING, epochs=4, backbone=backbone)


def short_dynamic(network: str, overrides: Overrides) -> Recipe:
    """The paper's method in a few epochs: one cycle, gates frozen after half of them."""
    backbone = Sgd(0.02, weight_decay=5e-4, schedule=OneCycle())
    return gated_recipe(
        network, overrides, _SERVING, epochs=4, mass=0.9, backbone=backbone, gates_learn=_GATES
    )


def shapes_dense(network: str, overrides: Overrides) -> Recipe:
    """A small dense network from scratch, in about a minute on two cores."""
    backbone = Sgd(0.3, weight_decay=5e-4, schedule=OneCycle())
    return plain_recipe(network, overrides, _SMALL, epochs=16, backbone=backbone)


def shapes_dynamic(network: str, overrides: Overrides) -> Recipe:
    """The paper's method on a small network: gates frozen after half of the epochs."""
    backbone = Sgd(0.05, weight_decay=5e-4, schedule=OneCycle(warmup=0.1))
    return gated_recipe(
        network, overrides, _SMALL, epochs=12, mass=0.85, backbone=backbone, gates_learn=_GATES
    )
