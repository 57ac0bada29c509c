"""Recipes: short functions that put parts together, by name."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ftwt import gates, losses, targets
from ftwt.data import Augment, ResizedCrop
from ftwt.errors import FtwtError
from ftwt.gates.pooling import Normalize
from ftwt.losses import Objective
from ftwt.model import Coupling, Pruning, TargetSource
from ftwt.training.optimizers import OneCycle, Sgd, Steps
from ftwt.training.phases import Phase
from ftwt.training.settings import Settings


@dataclass(frozen=True)
class Recipe:
    """Everything that a training needs beside the data and the starting weights.

    `pruning` is None for a plain, dense network.
    """

    network: str
    settings: Settings
    objective: Objective
    pruning: Pruning | None = None
    batch_size: int = 128
    augment: Augment | ResizedCrop = field(default_factory=Augment)


@dataclass(frozen=True)
class Choices:
    """What a user may choose of a recipe; None takes the recipe's own."""

    mass: float | None = None
    coupling: Coupling = "decoupled"
    normalize: Normalize = "softmax"
    epochs: int | None = None
    seed: int = 0
    distill: bool = False
    target_source: TargetSource = "masked"

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise FtwtError(f"recipe: epochs={self.epochs}; give 1 or more")
        if not 0 <= self.seed < 2**63:
            raise FtwtError(f"recipe: seed={self.seed}; give a number from 0 to 2**63 - 1")


Make = Callable[[str, Choices], Recipe]

# FTWT's epochs 81, 122 and 151 of 200.
_PAPER_STEPS = (81 / 200, 122 / 200, 151 / 200)


def paper_dense(network: str, choices: Choices) -> Recipe:
    """The paper's CIFAR baseline: SGD, lr 0.1, 200 epochs in steps."""
    epochs = choices.epochs or 200
    backbone = Sgd(0.1, weight_decay=5e-4, schedule=Steps(_PAPER_STEPS))
    settings = Settings((Phase("dense", epochs),), backbone, seed=choices.seed)
    return Recipe(network, settings, Objective.of(losses.CrossEntropy()))


def paper_gated(network: str, choices: Choices) -> Recipe:
    """The paper's dynamic training from the baseline.

    Gates train with the backbone in the first half of the epochs and are frozen after.
    """
    settings = Settings(
        _halves(choices.epochs or 200),
        backbone=Sgd(0.01, weight_decay=5e-4, schedule=Steps(_PAPER_STEPS)),
        # 81 of the 100 epochs in which the gates train.
        gates=Sgd(0.1, schedule=Steps((0.81,))),
        seed=choices.seed,
    )
    return Recipe(
        network,
        settings,
        _objective(choices),
        _pruning(choices, mass=0.9),
    )


def short_dense(network: str, choices: Choices) -> Recipe:
    """Fine-tune a dense network from given weights in a few epochs: one cycle, lr 0.02."""
    backbone = Sgd(0.02, weight_decay=5e-4, schedule=OneCycle())
    settings = Settings(
        (Phase("dense", choices.epochs or 4),),
        backbone,
        amp="bf16",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(network, settings, Objective.of(losses.CrossEntropy()))


def short_gated(network: str, choices: Choices) -> Recipe:
    """The paper's method in a few epochs: one cycle, gates frozen after the first half."""
    settings = Settings(
        _halves(choices.epochs or 4),
        backbone=Sgd(0.02, weight_decay=5e-4, schedule=OneCycle()),
        gates=Sgd(0.1, schedule=OneCycle(warmup=0.1)),
        amp="bf16",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(
        network,
        settings,
        _objective(choices),
        _pruning(choices, mass=0.9),
    )


def shapes_dense(network: str, choices: Choices) -> Recipe:
    """A small dense network from scratch, in about a minute on two cores."""
    settings = Settings(
        (Phase("dense", choices.epochs or 16),),
        Sgd(0.3, weight_decay=5e-4, schedule=OneCycle()),
        amp="bf16",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(network, settings, Objective.of(losses.CrossEntropy()), batch_size=64)


def shapes_gated(network: str, choices: Choices) -> Recipe:
    """The paper's method on a small network: gates frozen after the first half."""
    settings = Settings(
        _halves(choices.epochs or 12),
        backbone=Sgd(0.05, weight_decay=5e-4, schedule=OneCycle(warmup=0.1)),
        gates=Sgd(0.1, schedule=OneCycle(warmup=0.1)),
        amp="bf16",
        channels_last=True,
        seed=choices.seed,
    )
    return Recipe(
        network,
        settings,
        _objective(choices),
        _pruning(choices, mass=0.85),
        batch_size=64,
    )


def _halves(epochs: int) -> tuple[Phase, ...]:
    """Gates train with the backbone in the first half of the epochs and are frozen after."""
    first = max(1, epochs // 2)
    frozen = Phase("frozen gates", epochs - first, train="backbone") if epochs > first else None
    return (Phase("gates", first),) if frozen is None else (Phase("gates", first), frozen)


def _pruning(choices: Choices, *, mass: float) -> Pruning:
    """The paper's gate and target, with what the user chose instead."""
    gate = gates.PooledLinear(normalize=choices.normalize)
    target = targets.HeatmapMass(mass if choices.mass is None else choices.mass)
    return Pruning(gate, target, choices.coupling, target_source=choices.target_source)


def _objective(choices: Choices) -> Objective:
    objective = losses.CrossEntropy() + losses.GateBCE()
    return objective + losses.Distillation() if choices.distill else objective


@dataclass(frozen=True)
class Entry:
    """A recipe's line in the catalogue: its network, and how to make it dense and gated."""

    network: str
    dense: Make
    gated: Make
    about: str


def _catalogue() -> Mapping[str, Entry]:
    entries: dict[str, Entry] = {}
    for data in ("cifar10", "cifar100"):
        for model in (
            "resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "vgg16_bn",
            "mobilenet_v1", "mobilenet_v1-x0.75", "mobilenet_v1-x0.5", "mobilenet_v1-x0.25",
            "mobilenet_v2", "mobilenet_v2-x0.5", "mobilenet_v2-x0.25",
        ):  # fmt: skip
            name = f"{data}-{model}"
            entries[name] = Entry(name, paper_dense, paper_gated, "the paper's, 200 epochs")
            short = "from trained weights, a few epochs, bfloat16"
            entries[f"{name}-short"] = Entry(name, short_dense, short_gated, short)
    about = "the demo's, on the embedded shapes, bfloat16"
    entries["shapes-resnet8"] = Entry("cifar10-resnet8", shapes_dense, shapes_gated, about)
    return entries


CATALOGUE: Mapping[str, Entry] = _catalogue()


def recipe(name: str, choices: Choices, *, dense: bool = False) -> Recipe:
    """Make the recipe `name`.

    Raises:
        FtwtError: no recipe of that name; lists the nearest and all known ones.
    """
    entry = CATALOGUE.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, CATALOGUE, n=3)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise FtwtError(
            f"recipe: {name!r} is unknown; {guess}known are {', '.join(sorted(CATALOGUE))}"
        )
    return (entry.dense if dense else entry.gated)(entry.network, choices)
