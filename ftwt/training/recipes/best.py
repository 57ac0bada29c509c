"""A budget that images share as they need it, in a few epochs; docs/pareto.md compares it."""

from dataclasses import replace

from ftwt import losses
from ftwt.training.optimizers import OneCycle, Sgd
from ftwt.training.phases import Phase
from ftwt.training.recipes.recipe import Escalation, Overrides, Recipe
from ftwt.training.settings import Settings


def best_dense(network: str, overrides: Overrides) -> Recipe:
    """The whole network trained as long, taught by itself as it was: what to compare with."""
    settings = Settings(
        (Phase("train", overrides.epochs or 6),),
        Sgd(0.05, weight_decay=5e-4, schedule=OneCycle(warmup=0.1)),
        amp="auto",
        channels_last=True,
        seed=overrides.seed or 0,
    )
    return Recipe(network, settings, losses.CrossEntropy() + losses.Distillation())


def best(network: str, overrides: Overrides) -> Recipe:
    """A budget for each image: a narrow network, and a wider one where it is unsure."""
    return replace(best_dense(network, overrides), escalation=Escalation())
