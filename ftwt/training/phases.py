"""Phases: stretches of epochs, each with its own trainable parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import nn

from ftwt.errors import FtwtError, check_choice, check_whole
from ftwt.gated.model import Gated
from ftwt.gated.operating_points import OperatingPoint, thresholds_at
from ftwt.gated.within import gated_in
from ftwt.io.registry import register

TrainedPart = Literal["all", "gates", "backbone"]

# An attribute of parameters that a phase froze.
_BY_PHASE = "ftwt_frozen_by_phase"
# The share of batches of a phase with operating points that run at each end of their range.
_ENDS = 1 / 8


@register
@dataclass(frozen=True)
class Phase:
    """`epochs` epochs that train the backbone, the gates, or both.

    What a phase does not train is frozen for real: no gradient, no momentum, no weight decay, and
    batch norms of a frozen backbone keep their statistics.

    With `operating_points`, which `ftwt.calibrate` finds, one set of weights learns several
    budgets: an eighth of the batches runs at the lowest reduction, an eighth at the highest, the
    others at one drawn evenly from between; validation at the middle.
    """

    name: str
    epochs: int
    train: TrainedPart = "all"
    operating_points: tuple[OperatingPoint, ...] = ()

    def __post_init__(self) -> None:
        check_whole(f"Phase {self.name!r}", "epochs", self.epochs)
        check_choice(f"Phase {self.name!r}", "train", self.train, ("all", "gates", "backbone"))

    def sampled(self, model: nn.Module) -> nn.Module:
        """The model as one batch trains it: at a random reduction, if there are several."""
        if not self.operating_points:
            return model
        # After the sandwich rule (Yu and Huang, "Universally slimmable networks and improved
        # training techniques", 2019), but one network a batch. Drawn evenly, the ends would hardly
        # be seen.
        share = (torch.rand(()).item() - _ENDS) / (1 - 2 * _ENDS)
        return self._at(model, min(max(share, 0.0), 1.0))

    def validated(self, model: nn.Module) -> nn.Module:
        """The model as validation sees it: in the middle of the reductions, if there are some."""
        return self._at(model, 0.5)

    def _at(self, model: nn.Module, share: float) -> nn.Module:
        if not self.operating_points:
            return model
        assert isinstance(model, Gated)
        points = self.operating_points
        low, high = points[0].reduction, points[-1].reduction
        return model.with_thresholds(thresholds_at(points, low + share * (high - low)))

    def trains(self, part: Literal["gates", "backbone"]) -> bool:
        """Whether this phase trains that part."""
        return self.train in ("all", part)


def freeze_gates_halfway(epochs: int) -> tuple[Phase, ...]:
    """The paper's phases: gates train with the backbone in the first half, and are frozen after."""
    first = max(1, epochs // 2)
    if epochs <= first:
        return (Phase("gates", first),)
    return (Phase("gates", first), Phase("frozen gates", epochs - first, train="backbone"))


def enter(phase: Phase, model: nn.Module) -> None:
    """Make exactly the phase's parameters trainable, and set train and eval modes.

    What was frozen before any phase stays frozen.
    """
    model.train()
    held = gated_in(model)
    gates = [] if held is None else list(held.gates.parameters())
    own = {id(parameter) for parameter in gates}
    for parameter in model.parameters():
        if phase.trains("gates" if id(parameter) in own else "backbone"):
            _thaw(parameter)
        elif parameter.requires_grad:
            parameter.requires_grad_(False)
            setattr(parameter, _BY_PHASE, True)
    in_gates = set() if held is None else set(held.gates.modules())
    for module in model.modules():
        part: Literal["gates", "backbone"] = "gates" if module in in_gates else "backbone"
        # A network may keep its norms in eval mode by itself.
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not phase.trains(part):
            module.eval()


def leave(model: nn.Module) -> None:
    """Make trainable again what phases froze, and nothing else."""
    for parameter in model.parameters():
        _thaw(parameter)


@contextmanager
def quick_norms(model: nn.Module, momentum: float | None) -> Iterator[None]:
    """Let batch norms' statistics follow the batches at least as quickly as a momentum says."""
    slow = {
        module: module.momentum
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.momentum is not None
        and module.momentum < (momentum or 0)
    }
    try:
        for module in slow:
            module.momentum = momentum
        yield
    finally:
        for module, own in slow.items():
            module.momentum = own


def _thaw(parameter: nn.Parameter) -> None:
    if hasattr(parameter, _BY_PHASE):
        delattr(parameter, _BY_PHASE)
        parameter.requires_grad_(True)


def phase_at(phases: tuple[Phase, ...], epoch: int) -> Phase:
    """The phase that epoch `epoch` (from 0) belongs to."""
    for phase in phases:
        if epoch < phase.epochs:
            return phase
        epoch -= phase.epochs
    raise FtwtError(f"phase_at: epoch {epoch} is past the last phase")


def begins(phases: tuple[Phase, ...], epoch: int) -> bool:
    """Whether a phase begins with epoch `epoch` (from 0)."""
    return epoch in accumulate((phase.epochs for phase in phases[:-1]), initial=0)


def epochs_of(phases: tuple[Phase, ...], part: Literal["gates", "backbone"] | None = None) -> int:
    """Epochs of all phases, or of those that train a part."""
    return sum(phase.epochs for phase in phases if part is None or phase.trains(part))
