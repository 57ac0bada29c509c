"""Trainings on ImageNet.

FTWT (arXiv 2110.08232) starts from torchvision's weights and gives no hyper-parameters for
ImageNet. The method's (gates at lr 0.1 without weight decay, frozen after half of the epochs,
backbone at lr 0.01) are those of CIFAR; the rest is what these networks are usually trained with:
ResNets as in He et al. (arXiv 1512.03385, section 3.4), MobileNets along a cosine with the weight
decay of Sandler et al. (arXiv 1801.04381, section 6.1).
"""

from ftwt import gates, losses, targets
from ftwt.data import ResizedCrop
from ftwt.gated.pruning import Pruning
from ftwt.training.optimizers import Cosine, Sgd, Steps, Warmup
from ftwt.training.phases import Phase, freeze_gates_halfway
from ftwt.training.recipes.recipe import Choices, Recipe
from ftwt.training.settings import Settings


def imagenet_dense(network: str, choices: Choices) -> Recipe:
    """ResNets from scratch: 90 epochs, lr 0.1 for 256 images, a tenth at each third."""
    settings = Settings(
        (Phase("dense", choices.epochs or 90),),
        Sgd(0.1, weight_decay=1e-4, schedule=Steps((1 / 3, 2 / 3))),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    objective = losses.Objective.of(losses.CrossEntropy())
    return Recipe(network, settings, objective, batch_size=256, augment=ResizedCrop())


def imagenet_dynamic(network: str, choices: Choices) -> Recipe:
    """From torchvision's weights: 90 epochs, lr 0.01; gates at lr 0.1, frozen after half."""
    pruning = Pruning(
        gates.PooledLinear(pool="max", normalize=choices.normalize),
        targets.HeatmapMass(0.95 if choices.mass is None else choices.mass),
        choices.coupling,
        target_source=choices.target_source,
    )
    objective = losses.CrossEntropy() + losses.GateBCE()
    if choices.distill:
        objective += losses.Distillation()
    settings = Settings(
        freeze_gates_halfway(choices.epochs or 90),
        backbone=Sgd(0.01, weight_decay=1e-4, schedule=Steps((1 / 3, 2 / 3))),
        gates=Sgd(0.1, schedule=Steps((2 / 3,))),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(network, settings, objective, pruning, batch_size=256, augment=ResizedCrop())


def imagenet_finetune_dense(network: str, choices: Choices) -> Recipe:
    """More of the trained network: 20 epochs, lr 0.001, to compare fine-tuned gates with."""
    settings = Settings(
        (Phase("dense", choices.epochs or 20),),
        Sgd(0.001, weight_decay=1e-4, schedule=Cosine()),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    objective = losses.Objective.of(losses.CrossEntropy())
    return Recipe(network, settings, objective, batch_size=256, augment=ResizedCrop())


def imagenet_finetune_dynamic(network: str, choices: Choices) -> Recipe:
    """The fine-tuning variant, from torchvision's weights: 20 epochs, lr 0.001."""
    pruning = Pruning(
        gates.PooledLinear(pool="max", normalize=choices.normalize),
        targets.HeatmapMass(0.95 if choices.mass is None else choices.mass),
        choices.coupling,
        target_source=choices.target_source,
    )
    objective = losses.CrossEntropy() + losses.GateBCE()
    if choices.distill:
        objective += losses.Distillation()
    settings = Settings(
        freeze_gates_halfway(choices.epochs or 20),
        backbone=Sgd(0.001, weight_decay=1e-4, schedule=Cosine()),
        gates=Sgd(0.1, schedule=Cosine()),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(network, settings, objective, pruning, batch_size=256, augment=ResizedCrop())


def imagenet_mobile_dense(network: str, choices: Choices) -> Recipe:
    """MobileNets from scratch: 150 epochs, lr 0.05 for 256 images, along a cosine."""
    settings = Settings(
        (Phase("dense", choices.epochs or 150),),
        Sgd(0.05, weight_decay=4e-5, schedule=Warmup(Cosine())),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    objective = losses.Objective.of(losses.CrossEntropy())
    return Recipe(network, settings, objective, batch_size=256, augment=ResizedCrop())


def imagenet_mobile_dynamic(network: str, choices: Choices) -> Recipe:
    """MobileNets from trained weights: 90 epochs, lr 0.01 and gates lr 0.1, along a cosine."""
    pruning = Pruning(
        gates.PooledLinear(pool="max", normalize=choices.normalize),
        targets.HeatmapMass(0.95 if choices.mass is None else choices.mass),
        choices.coupling,
        target_source=choices.target_source,
    )
    objective = losses.CrossEntropy() + losses.GateBCE()
    if choices.distill:
        objective += losses.Distillation()
    settings = Settings(
        freeze_gates_halfway(choices.epochs or 90),
        backbone=Sgd(0.01, weight_decay=4e-5, schedule=Cosine()),
        gates=Sgd(0.1, schedule=Cosine()),
        amp="auto",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(network, settings, objective, pruning, batch_size=256, augment=ResizedCrop())
