"""What a recipe makes, and what its user chooses."""

from dataclasses import dataclass, field

from ftwt.data import Augment, ResizedCrop
from ftwt.errors import FtwtError
from ftwt.gated.pruning import Coupling, Pruning, TargetSource
from ftwt.gates.pooling import Normalize
from ftwt.io.registry import register
from ftwt.losses import Objective
from ftwt.training.settings import Settings


@register
@dataclass(frozen=True)
class Recipe:
    """Everything that a training needs beside the data and the starting weights.

    `pruning` is None for a plain, dense network. `batch_size` is the images of one step. `sites`
    names the convolutions that get gates; None takes those that `attach` finds.
    """

    network: str
    settings: Settings
    objective: Objective
    pruning: Pruning | None = None
    batch_size: int = 128
    augment: Augment | ResizedCrop = field(default_factory=Augment)
    sites: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Choices:
    """What a user may choose of a recipe; None takes the recipe's own.

    `distill` adds `losses.Distillation()` from the dense network that training starts from.
    """

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
