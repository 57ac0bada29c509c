"""Optimizers and their schedules as values; torch does the work."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim import lr_scheduler

from ftwt.errors import FtwtError
from ftwt.io.registry import register


@runtime_checkable
class Schedule(Protocol):
    """A learning rate over the steps in which an optimizer's parameters are trained."""

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler over `steps` steps."""
        ...


@register
@dataclass(frozen=True)
class Constant:
    """The same learning rate throughout."""

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler over `steps` steps."""
        return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


@register
@dataclass(frozen=True)
class Steps:
    """Multiply the learning rate by `factor` at each of the given fractions of training."""

    at: tuple[float, ...]
    factor: float = 0.1

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler over `steps` steps."""
        milestones = [round(fraction * steps) for fraction in self.at]
        return lr_scheduler.MultiStepLR(optimizer, milestones, gamma=self.factor)


@register
@dataclass(frozen=True)
class Cosine:
    """Fall to zero along half a cosine."""

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler over `steps` steps."""
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps))


@register
@dataclass(frozen=True)
class OneCycle:
    """Rise to the learning rate over the first `warmup` of training, then fall to zero."""

    warmup: float = 0.3

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler over `steps` steps."""
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=max(1, steps) + 1,
            pct_start=self.warmup,
            cycle_momentum=False,
        )


@register
@dataclass(frozen=True)
class Warmup:
    """Rise in a straight line from almost zero over the first `share` of training, then `then`.

    The schedule `then` runs over the steps that are left.

    Raises:
        FtwtError: `share` is not between 0 and 1.
    """

    then: Schedule
    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise FtwtError(
                f"Warmup: share={self.share!r} is outside (0, 1); give a share of training such as "
                "0.05"
            )

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler over `steps` steps."""
        rise = max(1, round(self.share * steps))
        rising = lr_scheduler.LinearLR(optimizer, start_factor=1 / (rise + 1), total_iters=rise)
        rest = self.then.build(optimizer, max(1, steps - rise))
        return lr_scheduler.SequentialLR(optimizer, [rising, rest], milestones=[rise])


@register
@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum."""

    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: Schedule = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise FtwtError(f"Sgd: lr={self.lr!r}; give a positive, finite learning rate")
        for name in ("momentum", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise FtwtError(f"Sgd: {name}={getattr(self, name)!r}; give 0 or more, finite")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.SGD:
        """Return torch's optimizer."""
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )
