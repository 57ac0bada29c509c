"""The paper's trainings on CIFAR (FTWT, arXiv 2110.08232, section 4 and supplement).

Steps are at epochs 81, 122 and 151 of 200, here as fractions, so that fewer epochs keep the shape.
"""

from ftwt import gates, losses, targets
from ftwt.gated.pruning import Pruning
from ftwt.training.optimizers import Cosine, Sgd, Steps
from ftwt.training.phases import Phase, freeze_gates_halfway
from ftwt.training.recipes.recipe import Choices, Recipe
from ftwt.training.settings import Settings


def cifar_dense(network: str, choices: Choices) -> Recipe:
    """The baseline: 200 epochs from scratch, lr 0.1 in three steps."""
    backbone = Sgd(0.1, weight_decay=5e-4, schedule=Steps((81 / 200, 122 / 200, 151 / 200)))
    phases = (Phase("dense", choices.epochs or 200),)
    settings = Settings(phases, backbone, seed=choices.seed)
    return Recipe(network, settings, losses.Objective.of(losses.CrossEntropy()))


def cifar_dynamic(network: str, choices: Choices) -> Recipe:
    """From the baseline: 200 epochs, lr 0.01; gates learn at lr 0.1, frozen after half of them."""
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
        freeze_gates_halfway(choices.epochs or 200),
        backbone=Sgd(0.01, weight_decay=5e-4, schedule=Steps((81 / 200, 122 / 200, 151 / 200))),
        # Gates train in the first 100 of 200 epochs, and see the step at 81.
        gates=Sgd(0.1, schedule=Steps((81 / 100,))),
        seed=choices.seed,
    )
    return Recipe(network, settings, objective, pruning)


def cifar_finetune_dense(network: str, choices: Choices) -> Recipe:
    """More of the baseline: 50 epochs, lr 0.001, to compare fine-tuned gates with."""
    backbone = Sgd(0.001, weight_decay=5e-4, schedule=Steps((81 / 200, 122 / 200, 151 / 200)))
    phases = (Phase("dense", choices.epochs or 50),)
    settings = Settings(phases, backbone, seed=choices.seed)
    return Recipe(network, settings, losses.Objective.of(losses.CrossEntropy()))


def cifar_finetune_dynamic(network: str, choices: Choices) -> Recipe:
    """The fine-tuning variant, from the baseline: 50 epochs, lr 0.001; gates as in the long one."""
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
        freeze_gates_halfway(choices.epochs or 50),
        backbone=Sgd(0.001, weight_decay=5e-4, schedule=Steps((81 / 200, 122 / 200, 151 / 200))),
        gates=Sgd(0.1, schedule=Steps((81 / 100,))),
        seed=choices.seed,
    )
    return Recipe(network, settings, objective, pruning)


def cifar_cosine_dense(network: str, choices: Choices) -> Recipe:
    """MobileNetV2's baseline: 200 epochs from scratch, lr 0.1 along a cosine."""
    backbone = Sgd(0.1, weight_decay=5e-4, schedule=Cosine())
    phases = (Phase("dense", choices.epochs or 200),)
    settings = Settings(phases, backbone, seed=choices.seed)
    return Recipe(network, settings, losses.Objective.of(losses.CrossEntropy()))


def cifar_cosine_dynamic(network: str, choices: Choices) -> Recipe:
    """MobileNetV2 from its baseline: as `cifar_dynamic`, with both rates along a cosine."""
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
        freeze_gates_halfway(choices.epochs or 200),
        backbone=Sgd(0.01, weight_decay=5e-4, schedule=Cosine()),
        gates=Sgd(0.1, schedule=Cosine()),
        seed=choices.seed,
    )
    return Recipe(network, settings, objective, pruning)
