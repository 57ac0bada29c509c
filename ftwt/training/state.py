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
from ftwt.gated.within import gated_in
from ftwt.training.metrics import Metrics
from ftwt.training.optimizers import schedule_of
from ftwt.training.phases import epochs_of
from ftwt.training.settings import Settings

PARTS: tuple[Literal["backbone", "gates"], ...] = ("backbone", "gates")


@dataclass
class TrainingState:
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
        best_score: the task's, on the validation images, in the last phase; None before it.
        best_epoch: the epoch of that score; -1 before the last phase.
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
    best_score: float | None = None
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
        held = gated_in(self.model)
        return None if held is None else held.thresholds

    def move_thresholds(self, thresholds: Mapping[str, float]) -> None:
        """Set those of the network in training, and of its average."""
        for model in (self.model, self.validated):
            held = gated_in(model)
            assert held is not None
            held.move_thresholds(thresholds)


def start(model: nn.Module, settings: Settings, batches_per_epoch: int) -> TrainingState:
    """Build optimizers and schedules for a model.

    Each schedule runs over the steps in which its own part is trained. Targets that come from a
    teacher come from the model as it is now, unless it has a teacher already.

    Raises:
        FtwtError: a part that is trained has no optimizer, or float16 was asked for without a GPU.
    """
    device = next(model.parameters()).device
    check_amp(settings, device)
    held = gated_in(model)
    if held is not None and held.needs_gradients and held is not model:
        raise FtwtError(
            f"start: {type(model).__name__} holds a gated network whose targets need the loss's "
            "gradient, which only a network that is gated as a whole can give; choose a target "
            "without, such as targets.HeatmapMass(0.9)"
        )
    if settings.compile and held is not None and held.needs_gradients:
        raise FtwtError(
            "start: targets that need the loss's gradient take a pass of their own, which "
            "torch.compile cannot hold; leave out compile"
        )
    if held is not None and held.needs_teacher:
        held.keep_teacher()
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
    return TrainingState(model, optimizers, schedulers, scaler, average)


def check_amp(settings: Settings, device: torch.device) -> None:
    """Raise FtwtError where float16 was asked for without a GPU."""
    if settings.amp == "fp16" and device.type == "cpu":
        raise FtwtError(
            "train: float16 (--amp fp16) needs a GPU, and this run is on the CPU; use bf16, which "
            "CPUs have, or give --device cuda"
        )


def _parameters(model: nn.Module, part: str) -> list[nn.Parameter]:
    held = gated_in(model)
    gates = [] if held is None else held.gate_parameters()
    if part == "gates":
        return gates
    own = {id(parameter) for parameter in gates}
    return [one for one in model.parameters() if id(one) not in own]
