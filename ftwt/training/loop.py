"""The training loop: plain functions over a state."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ftwt.errors import FtwtError
from ftwt.gates.untrained import Oracle
from ftwt.losses.gate_bce import GateBCE
from ftwt.losses.interface import Objective
from ftwt.macs import Plan
from ftwt.model import Gated
from ftwt.trace import Trace
from ftwt.training.evaluation import Evaluation, evaluate
from ftwt.training.phases import Phase, enter, epochs_of, phase_at
from ftwt.training.settings import Settings

PARTS: tuple[Literal["backbone", "gates"], ...] = ("backbone", "gates")


@runtime_checkable
class Batches(Protocol):
    """Training batches: sized, iterable again and again."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Any: ...


class Epoch(NamedTuple):
    """What one epoch of training and its validation gave; fractions and seconds."""

    epoch: int
    phase: str
    losses: dict[str, float]
    train_accuracy: float
    mask_accuracy: float | None
    validation: Evaluation
    learning_rates: dict[str, float]
    seconds: float
    images_per_second: float


@dataclass
class State:
    """Everything that changes while training."""

    model: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    schedulers: dict[str, LRScheduler]
    epoch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


def start(model: nn.Module, settings: Settings, steps_per_epoch: int) -> State:
    """Build optimizers and schedules for a model.

    Each schedule runs over the steps in which its own part is trained.
    """
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
        schedulers[part] = spec.schedule.build(optimizers[part], steps)
    return State(model, optimizers, schedulers)


def fit(
    state: State,
    objective: Objective,
    settings: Settings,
    train: Batches,
    validation: Iterable[tuple[Tensor, Tensor]],
    *,
    after_step: Callable[[int, int], None] | None = None,
    after_epoch: Callable[[Epoch, State], None] | None = None,
) -> State:
    """Train from `state.epoch` to the end and load the best weights into the model.

    The best epoch is that of the highest validation accuracy in the last phase: earlier phases
    are not the finished model.

    Raises:
        FtwtError: a loss is not finite. The model then holds the weights of the last good epoch.
    """
    model = state.model
    last = settings.phases[-1]
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    good = _copy(model)
    while state.epoch < epochs_of(settings.phases):
        phase = phase_at(settings.phases, state.epoch)
        if hasattr(train, "set_epoch"):
            train.set_epoch(state.epoch)
        begin = time.monotonic()
        enter(phase, model)
        try:
            losses, accuracy, mask_accuracy, images = _train_epoch(
                state, phase, objective, settings, train, after_step
            )
        except FtwtError:
            model.load_state_dict(good)
            raise
        seconds = time.monotonic() - begin
        result = evaluate(model, validation)
        rates = {part: one.param_groups[0]["lr"] for part, one in state.optimizers.items()}
        row = Epoch(
            epoch=state.epoch,
            phase=phase.name,
            losses=losses,
            train_accuracy=accuracy,
            mask_accuracy=mask_accuracy,
            validation=result,
            learning_rates=rates,
            seconds=seconds,
            images_per_second=images / seconds,
        )
        good = _copy(model)
        if phase == last and result.accuracy > state.best_accuracy:
            state.best_accuracy, state.best_epoch = result.accuracy, state.epoch
            state.best_weights = good
        state.epoch += 1
        state.seconds += time.monotonic() - begin
        if after_epoch is not None:
            after_epoch(row, state)
    if state.best_weights:
        model.load_state_dict(state.best_weights)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return state


def observe(model: nn.Module, images: Tensor, *, targets: bool = True) -> Trace:
    """Trace a gated network; a plain one gives a trace without sites."""
    if isinstance(model, Gated):
        return model.trace(images, targets=targets)
    shape = tuple(images.shape[1:])
    return Trace(model(images), {}, Plan((), Oracle()), shape, shape)


def _train_epoch(
    state: State,
    phase: Phase,
    objective: Objective,
    settings: Settings,
    train: Batches,
    after_step: Callable[[int, int], None] | None,
) -> tuple[dict[str, float], float, float | None, int]:
    model = state.model
    device = next(model.parameters()).device
    active = [part for part in PARTS if part in state.optimizers and phase.trains(part)]
    sums: dict[str, Tensor] = {}
    images = 0
    for step, (inputs, labels) in enumerate(train):
        inputs, labels = inputs.to(device), labels.to(device)
        if settings.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.amp is not None):
            trace = observe(model, inputs, targets=phase.trains("gates"))
        report = objective_of(phase, objective)(trace, labels)
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(report.total)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        for part in active:
            state.optimizers[part].step()
            state.schedulers[part].step()
        images += len(labels)
        _accumulate(sums, trace, labels, {"loss": report.total, **report.parts})
        # A look at the loss waits for the device, so it is taken now and then; which batch was
        # the first bad one is found on the device.
        if step % 25 == 0 or step + 1 == len(train):
            _check_finite(sums, state.epoch, step)
        if after_step is not None:
            after_step(step + 1, len(train))
    if images == 0:
        raise FtwtError("fit: the training loader gave no images; give at least one batch")
    masks = (sums["mask_right"] / sums["mask_count"]).item() if "mask_right" in sums else None
    losses = {
        name.removeprefix("loss:"): value.item() / len(train)
        for name, value in sums.items()
        if name.startswith("loss:")
    }
    return losses, sums["right"].item() / images, masks, images


def objective_of(phase: Phase, objective: Objective) -> Objective:
    """The losses that have something to train in a phase."""
    if phase.trains("gates"):
        return objective
    kept = tuple(term for term in objective.terms if not isinstance(term[1], GateBCE))
    return Objective(kept)


@torch.no_grad()
def _accumulate(
    sums: dict[str, Tensor], trace: Trace, labels: Tensor, losses: dict[str, Tensor]
) -> None:
    for name, value in losses.items():
        _add(sums, f"loss:{name}", value.detach().double())
    _add(sums, "right", (trace.output.argmax(1) == labels).sum())
    known = [site for site in trace.sites.values() if site.target is not None]
    if known:
        masks = torch.cat([site.mask for site in known], 1)
        targets = torch.cat([site.target for site in known if site.target is not None], 1)
        _add(sums, "mask_right", (masks == targets).sum())
        _add(sums, "mask_count", torch.full_like(sums["mask_right"], masks.numel()))
    bad = ~torch.isfinite(losses["loss"])
    _add(sums, "good_steps", (~bad & (sums.get("bad", bad) == 0)).long())
    _add(sums, "bad", bad.long())


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


def _check_finite(sums: dict[str, Tensor], epoch: int, step: int) -> None:
    if not sums["bad"].item():
        return
    batch = int(sums["good_steps"].item())
    names = [
        name.removeprefix("loss:")
        for name, value in sums.items()
        if name.startswith("loss:") and name != "loss:loss" and not math.isfinite(value.item())
    ]
    raise FtwtError(
        f"fit: the loss is not finite at epoch {epoch + 1}, batch {batch + 1} "
        f"({', '.join(names)}); the weights of the last good epoch are kept, "
        "lower the learning rate or look for bad values in that batch"
    )


def _parameters(model: nn.Module, part: str) -> list[nn.Parameter]:
    if isinstance(model, Gated):
        return model.gate_parameters() if part == "gates" else model.backbone_parameters()
    return list(model.parameters()) if part == "backbone" else []


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: value.detach() for name, value in model.state_dict().items()})
