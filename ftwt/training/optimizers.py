"""Optimizers and their schedules as values; torch does the work."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim import lr_scheduler

from ftwt.errors import FtwtError, check_within
from ftwt.io.registry import register


@runtime_checkable
class Schedule(Protocol):
    """A learning rate over the steps in which an optimizer's parameters are trained."""

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
        """Return torch's scheduler over `steps` steps."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """An optimizer's specification: a value that builds torch's optimizer.

    Where it has a `schedule` (a `Schedule`), the learning rate follows that, else it stays.
    """

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's optimizer over these parameters."""
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
        mend = "give a share of training such as 0.05"
        check_within("Warmup", "share", self.share, "(0, 1)", mend)

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
        _check_rates("Sgd", self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.SGD:
        """Return torch's optimizer."""
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


@register
@dataclass(frozen=True)
class AdamW:
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, arXiv 1711.05101)."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    schedule: Schedule = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        _check_rates("AdamW", self.lr, weight_decay=self.weight_decay)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise FtwtError(f"AdamW: betas={self.betas!r}; give two numbers in [0, 1)")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """Return torch's optimizer."""
        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay
        )


@register
@dataclass(frozen=True)
class Torch:
    """Any optimizer of torch by its name, or one of your own by the function that makes it.

    >>> made = Torch("RMSprop", {"lr": 1e-3, "momentum": 0.9})
    >>> made.build([nn.Parameter(torch.ones(1))]).defaults["momentum"]
    0.9

    Attributes:
        make: a name in `torch.optim` or a class of it; or a registered function of the parameters.
        options: what it is called with beside the parameters, such as `{"lr": 1e-3}`.
        schedule: of the learning rate.

    Raises:
        FtwtError: there is no such optimizer, it does not take the options, or its steps need a
            closure.
    """

    make: str | Callable[..., torch.optim.Optimizer]
    options: Mapping[str, Any] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        if getattr(self.make, "__module__", "").startswith("torch.optim"):
            object.__setattr__(self, "make", self.make.__name__)  # type: ignore[union-attr]
        known = [
            name for name in torch.optim.__all__ if isinstance(getattr(torch.optim, name), type)
        ]
        if isinstance(self.make, str) and self.make not in known:
            raise FtwtError(
                f"Torch: torch.optim has no {self.make!r}; give one of {', '.join(known)}"
            )
        if self.make == "LBFGS":
            raise FtwtError(
                "Torch: a step of LBFGS asks for the loss again, which these trainings do not "
                "give; choose another optimizer"
            )
        try:
            self.build([nn.Parameter(torch.zeros(2, 2))])
        except (TypeError, ValueError) as error:
            raise FtwtError(f"Torch: {self.make}: {' '.join(str(error).split())}") from None

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's optimizer."""
        make = getattr(torch.optim, self.make) if isinstance(self.make, str) else self.make
        made: torch.optim.Optimizer = make(parameters, **self.options)
        return made


def schedule_of(optimizer: Optimizer) -> Schedule:
    """The schedule of an optimizer's learning rate: its own, or none."""
    schedule = getattr(optimizer, "schedule", None)
    return Constant() if schedule is None else schedule


def check_optimizer(called: str, optimizer: object) -> None:
    """Raise FtwtError unless a value builds an optimizer from parameters, with a schedule if any.

    Gates and schedules have a `build`, too, of sites and of an optimizer with its steps.
    """
    came = " ".join(repr(optimizer).split())
    example = "give training.Sgd(0.1), training.AdamW(1e-3), or a value with build(parameters)"
    other = isinstance(optimizer, type) or hasattr(optimizer, "macs")
    if other or not _builds(optimizer, 1):
        raise FtwtError(f"{called}={came} is no optimizer; {example}")
    schedule = schedule_of(optimizer) if isinstance(optimizer, Optimizer) else None
    if not _builds(schedule, 2):
        came = " ".join(repr(schedule).split())
        raise FtwtError(
            f"{called}: schedule={came} is no schedule; give training.Cosine(), or a value with "
            "build(optimizer, steps)"
        )


def _builds(value: object, arguments: int) -> bool:
    build = getattr(value, "build", None)
    if isinstance(value, type) or not callable(build):
        return False
    try:
        inspect.signature(build).bind(*(None,) * arguments)
    except TypeError:
        return False
    return True


def _check_rates(name: str, lr: float, **others: float) -> None:
    check_within(name, "lr", lr, "(0, inf)", "give a learning rate, for example 0.1")
    for field_name, value in others.items():
        if not 0 <= value < math.inf:
            raise FtwtError(f"{name}: {field_name}={value!r}; give 0 or more, finite")
