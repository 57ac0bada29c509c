"""What a recipe makes, and what its user chooses."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from torch import nn

from ftwt.backbones import networks
from ftwt.data import Augment, ResizedCrop
from ftwt.errors import FtwtError, check_whole, check_within
from ftwt.gated.escalation import Margin, Signal
from ftwt.gated.pruning import Coupling, Pruning, TargetSource
from ftwt.gates.pooling import Normalize
from ftwt.io.registry import name_of, register
from ftwt.losses import Objective
from ftwt.losses.interface import is_loss
from ftwt.training.settings import Settings
from ftwt.training.tasks import LABELLED, Task


@register
@dataclass(frozen=True)
class Escalation:
    """A narrow network answers first, and a wider or the whole one where the first is unsure.

    Both are trained by the same recipe from the same start. `first` and `last` are what their
    passes take, as multiples of the MACs that are wanted on average; where the last would take
    `whole_from` of the network or more, it is the whole network. The filters of each are the same
    for all images, those that come first in one ranking of weights over all layers
    (`budget.static.group_scores`). `by`, `weight` and `mirror` are as for `ftwt.escalate`; images
    are mirrored only where the recipe trains on mirrored ones, too.

    Raises:
        FtwtError: `first` is not between 0 and 1, `last` not above 1, or `whole_from` not in
            (0, 1].
    """

    first: float = 0.7
    last: float = 10 / 7
    whole_from: float = 0.7
    by: Signal = field(default_factory=Margin)
    weight: float = 0.8
    mirror: bool = True

    def __post_init__(self) -> None:
        mend = "give the share of the MACs that the first pass takes, for example 0.7"
        check_within("Escalation", "first", self.first, "(0, 1)", mend)
        if not self.last > 1:
            raise FtwtError(
                f"Escalation: last={self.last!r} is not above 1; give the last pass more MACs "
                "than are wanted on average, for example 1.4 times as many"
            )
        mend = "give the share from which on the last pass takes the whole network, such as 0.7"
        check_within("Escalation", "whole_from", self.whole_from, "(0, 1]", mend)

    def shares(self, reduction: float) -> tuple[float, float]:
        """What the first and the last pass take of the whole network's MACs; 1 is all of it.

        Args:
            reduction: share of MACs to save on average.
        """
        wanted = 1 - reduction
        # Ten thousandths: 0.7 of a half is 0.35, whatever its last bits.
        first, last = (round(way * wanted, 4) for way in (self.first, self.last))
        return first, last if last < self.whole_from else 1.0


# What parts of a recipe are, and an example of each.
_PARTS: Mapping[str, tuple[Any, str]] = {
    "network": ((str, nn.Module, Callable), "a name, or the function that makes the network"),
    "settings": (Settings, "training.Settings(...)"),
    "objective": (Objective, "losses.CrossEntropy() + losses.GateBCE()"),
    "pruning": ((Pruning, NoneType), "ftwt.Pruning(...), or None for a plain network"),
    "batch_size": (int, "a number of images"),
    "task": (Task, "a task such as training.tasks.Classification()"),
    "inside": (str, 'the name of a module, such as "backbone"'),
}


@register
@dataclass(frozen=True)
class Recipe:
    """Everything that a training needs beside the data and the starting weights.

    `network` is a name of `ftwt.networks`, a function that makes the network (at the top of a
    module; it is registered), or a network itself, whose weights are then the start; files of such
    a run want it again to load.
    `pruning` is None for a plain, dense network. `batch_size` is the images of one step. `sites`
    names the convolutions that get gates; None takes those that `attach` finds. With `escalation`
    two plain networks are trained, for a reduction that `budget.train_to` is given. `task` says
    where in the network's output the logits are, if they are not the output itself. `inside` names
    the module that gets the gates, such as the "backbone" of a detector, where the network as a
    whole does not trace; `sites` are then that module's.
    """

    network: str | nn.Module | Callable[..., nn.Module]
    settings: Settings
    objective: Objective
    pruning: Pruning | None = None
    batch_size: int = 128
    augment: Augment | ResizedCrop = field(default_factory=Augment)
    sites: tuple[str, ...] | None = None
    escalation: Escalation | None = None
    task: Task = LABELLED
    inside: str = ""

    def __post_init__(self) -> None:
        # A lone loss is an objective, too.
        if not isinstance(self.objective, Objective) and is_loss(self.objective):
            object.__setattr__(self, "objective", Objective.of(self.objective))
        for name, (kinds, example) in _PARTS.items():
            given: Any = getattr(self, name)
            if not isinstance(given, kinds):
                raise FtwtError(f"Recipe: {name}={given!r}; give {example}")
        if self.batch_size < 1:
            raise FtwtError(f"Recipe: batch_size={self.batch_size}; give 1 image or more")
        if callable(self.network) and not isinstance(self.network, nn.Module):
            object.__setattr__(self, "network", name_of(register(self.network)))

    @property
    def network_name(self) -> str | None:
        """The name under which `load` builds the network; None for a network itself."""
        return self.network if isinstance(self.network, str) else None

    @property
    def own_network(self) -> nn.Module | None:
        """A copy of the network that was given itself, which files of its runs want to load."""
        return copy.deepcopy(self.network) if isinstance(self.network, nn.Module) else None

    def build(self, num_classes: int) -> nn.Module:
        """A new network, or a copy of the one that was given."""
        if isinstance(self.network, nn.Module):
            return copy.deepcopy(self.network)
        return networks.build(self.network, num_classes=num_classes)


@dataclass(frozen=True)
class Overrides:
    """What a user may choose of a recipe; None takes the recipe's own.

    `distill` adds `losses.Distillation()` from the dense network that training starts from.
    """

    mass: float | None = None
    coupling: Coupling = "decoupled"
    normalize: Normalize = "softmax"
    epochs: int | None = None
    seed: int | None = None
    distill: bool = False
    target_source: TargetSource = "masked"

    def __post_init__(self) -> None:
        if self.epochs is not None:
            check_whole("recipe", "epochs", self.epochs)
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise FtwtError(f"recipe: seed={self.seed}; give a number from 0 to 2**63 - 1")
