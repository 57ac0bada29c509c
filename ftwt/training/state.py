"""What changes while training, and how it begins."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.training.metrics import Metrics
from ftwt.training.optimizers import schedule_of
from ftwt.training.phases import epochs_of
from ftwt.training.settings import Settings

PARTS: tuple[Literal["backbone", "gates"], ...] = ("backbone", "gates")


@dataclass
class State:
    """Everything that changes while training.

    Attributes:
        model: the network in training.
        optimizers: by part, "backbone" and "gates".
        schedulers: the optimizers' learning rates, by part.
        scaler: scales the loss in float16; does nothing otherwise.
        average: the moving average of the model, where `Settings.ema` asks for one.
        epoch: epochs that are done.
        batch: batches of the next epoch that are done.
        step: optimizer steps that are done.
        metrics: sums over these batches.
        best_accuracy: on the validation images, in the last phase; -1 before it.
        best_epoch: the epoch of that accuracy; -1 before the last phase.
        best_weights: the weights of that epoch.
        seconds: of training and validation so far.
    """

    model: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    schedulers: dict[str, LRScheduler]
    scaler: torch.amp.GradScaler
    average: AveragedModel | None = None
    epoch: int = 0
    batch: int = 0
    step: int = 0
    metrics: Metrics = field(default_factory=Metrics)
    best_accuracy: float = -1.0
    best_epoch: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def validated(self) -> nn.Module:
        """The network to validate and keep: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def thresholds(self) -> dict[str, float] | None:
        """Those of the gates, by site; None for a plain network."""
        return self.model.thresholds if isinstance(self.model, Gated) else None

    def move_thresholds(self, thresholds: Mapping[str, float]) -> None:
        """Set those of the network in training, and of its average."""
        for model in (self.model, self.validated):
            assert isinstance(model, Gated)
            model.move_thresholds(thresholds)


def start(model: nn.Module, settings: Settings, batches_per_epoch: int) -> State:
    """Build optimizers and schedules for a model.

    Each schedule runs over the steps in which its own part is trained. Targets that come from a
    teacher come from the model as it is now, unless it has a teacher already.

    Raises:
        FtwtError: a part that is trained has no optimizer, or float16 was asked for without a GPU.
    """
    device = next(model.parameters()).device
    check_amp(settings, device)
    if settings.compile and isinstance(model, Gated) and model.needs_gradients:
        raise FtwtError(
            "start: targets that need the loss's gradient take a pass of their own, which "
            "torch.compile cannot hold; leave out compile"
        )
    if isinstance(model, Gated) and model.needs_teacher:
        model.keep_teacher()
    steps_per_epoch = math.ceil(batches_per_epoch / settings.accumulate)
    optimizers: dict[str, torch.optim.Optimizer] = {}
    schedulers: dict[str, LRScheduler] = {}
    for part in PARTS:
        parameters = _parameters(model, part)
        spec = settings.backbone if part == "backbone" else settings.gates
        steps = steps_per_epoch * epochs_of(settings.phases, part)
        if not parameters or not steps:
            continue
        if spec is None:
            raise FtwtError(f"start: no optimizer for the {part}; give Settings({part}=Sgd(...))")
        optimizers[part] = spec.build(parameters)
        schedulers[part] = schedule_of(spec).build(optimizers[part], steps)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
    average = None
    if settings.ema is not None:
        mean = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
        average = AveragedModel(model, multi_avg_fn=mean)
    return State(model, optimizers, schedulers, scaler, average)


def check_amp(settings: Settings, device: torch.device) -> None:
    """Raise FtwtError where float16 was asked for without a GPU."""
    if settings.amp == "fp16" and device.type == "cpu":
        raise FtwtError(
            "train: float16 (--amp fp16) needs a GPU, and this run is on the CPU; use bf16, which "
            "CPUs have, or give --device cuda"
        )


def _parameters(model: nn.Module, part: str) -> list[nn.Parameter]:
    if isinstance(model, Gated):
        return model.gate_parameters() if part == "gates" else model.backbone_parameters()
    return list(model.parameters()) if part == "backbone" else []
