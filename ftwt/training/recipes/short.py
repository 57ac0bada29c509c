"""Trainings of minutes: a few epochs from given weights, and the demo's small network."""

from ftwt import gates, losses, targets
from ftwt.gated.pruning import Pruning
from ftwt.training.optimizers import OneCycle, Sgd
from ftwt.training.phases import Phase, freeze_gates_halfway
from ftwt.training.recipes.recipe import Choices, Recipe
from ftwt.training.settings import Settings


def short_dense(network: str, choices: Choices) -> Recipe:
    """Fine-tune a dense network from given weights in a few epochs: one cycle, lr 0.02."""
    settings = Settings(
        (Phase("dense", choices.epochs or 4),),
        Sgd(0.02, weight_decay=5e-4, schedule=OneCycle()),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(network, settings, losses.Objective.of(losses.CrossEntropy()))


def short_dynamic(network: str, choices: Choices) -> Recipe:
    """The paper's method in a few epochs: one cycle, gates frozen after half of them."""
    pruning = Pruning(
        gates.PooledLinear(pool="max", normalize=choices.normalize),
        targets.HeatmapMass(0.9 if choices.mass is None else choices.mass),
        choices.coupling,
        target_source=choices.target_source,
    )
    objective = losses.CrossEntropy() + losses.GateBCE()
    if choices.distill:
        objective += losses.Distillation()
    settings = Settings(
        freeze_gates_halfway(choices.epochs or 4),
        backbone=Sgd(0.02, weight_decay=5e-4, schedule=OneCycle()),
        gates=Sgd(0.1, schedule=OneCycle(warmup=0.1)),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(network, settings, objective, pruning)


def shapes_dense(network: str, choices: Choices) -> Recipe:
    """A small dense network from scratch, in about a minute on two cores."""
    settings = Settings(
        (Phase("dense", choices.epochs or 16),),
        Sgd(0.3, weight_decay=5e-4, schedule=OneCycle()),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    objective = losses.Objective.of(losses.CrossEntropy())
    return Recipe(network, settings, objective, batch_size=64)


def shapes_dynamic(network: str, choices: Choices) -> Recipe:
    """The paper's method on a small network: gates frozen after half of the epochs."""
    pruning = Pruning(
        gates.PooledLinear(pool="max", normalize=choices.normalize),
        targets.HeatmapMass(0.85 if choices.mass is None else choices.mass),
        choices.coupling,
        target_source=choices.target_source,
    )
    objective = losses.CrossEntropy() + losses.GateBCE()
    if choices.distill:
        objective += losses.Distillation()
    settings = Settings(
        freeze_gates_halfway(choices.epochs or 12),
        backbone=Sgd(0.05, weight_decay=5e-4, schedule=OneCycle(warmup=0.1)),
        gates=Sgd(0.1, schedule=OneCycle(warmup=0.1)),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(network, settings, objective, pruning, batch_size=64)
