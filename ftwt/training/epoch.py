"""Training for one epoch, from wherever in it a state is."""

import itertools
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.losses.interface import Objective
from ftwt.training import distributed
from ftwt.training.inspection import pairs
from ftwt.training.metrics import EpochMeans, Metrics
from ftwt.training.phases import Phase, enter
from ftwt.training.precision import resolve
from ftwt.training.settings import Settings
from ftwt.training.signals import Interrupted
from ftwt.training.state import PARTS, TrainingState
from ftwt.training.step import TrainingStep
from ftwt.training.tasks import LABELLED, Task
from ftwt.training.tasks.batches import moved

# Steps between looks at values on the device, each of which waits for it.
_LOOK = 25
# Steps between questions whether any process of the job was asked to stop. These wait for a GPU.
_AGREE = 10


@runtime_checkable
class TrainingBatches(Protocol):
    """Training batches: sized, iterable again and again.

    Where they have `set_epoch(epoch)` it is called before each epoch. Where they have
    `starting_at(batch)` a resumed epoch asks for its later batches so, else earlier ones are drawn
    and dropped.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Any: ...


class StepEvent(NamedTuple):
    """Where a training is after a step. Reading means off the metrics waits for the device."""

    epoch: int
    phase: str
    batch: int
    batches: int
    metrics: Metrics


@dataclass(frozen=True)
class Checkpointer:
    """How a state is kept on disk, and when.

    Attributes:
        save: writes the state; called by all processes, after each epoch at least.
        every: steps between two calls within an epoch.
        asked_to_stop: the number of a signal that came, or 0.
    """

    save: Callable[[TrainingState], None]
    every: int | None = None
    asked_to_stop: Callable[[], int] = lambda: 0


@dataclass(frozen=True)
class EpochInputs:
    """What an epoch is trained with."""

    objective: Objective
    settings: Settings
    train: TrainingBatches
    checkpointer: Checkpointer | None
    after_step: Callable[[StepEvent], None] | None
    task: Task = LABELLED


def train_epoch(job: EpochInputs, state: TrainingState, phase: Phase) -> EpochMeans:
    """Train the batches of the epoch that are not done yet; gives means over all of them.

    Raises:
        FtwtError: a loss is not finite, or there are no batches.
        Interrupted: a signal asked to stop; the state is saved.
    """
    settings, device = job.settings, next(state.model.parameters()).device
    enter(phase, state.model)
    amp = resolve(settings.amp, device)
    step = TrainingStep(state.model, job.objective, phase=phase, amp=amp, task=job.task)
    if settings.compile:
        step.compile()
    run: nn.Module | None = None
    total, group = len(job.train), settings.accumulate
    last = time.monotonic()
    state.model.zero_grad(set_to_none=True)
    batches = pairs(_rest(job.train, state), "fit", job.task)
    for done, (inputs, wanted) in enumerate(batches, state.batch + 1):
        whole = done % group == 0 or done == total
        # The last step of an epoch may have fewer batches.
        share = group if done <= total - total % group else total % group
        inputs, wanted = _move(inputs, wanted, device, settings)
        run = run or distributed.parallel(step, inputs, wanted, device)
        with distributed.without_averaging(run) if not whole else nullcontext():
            loss, sums = _loss(run, inputs, wanted)
            torch.autograd.backward(state.scaler.scale(loss / share))
        state.metrics.add(sums, len(wanted))
        if not whole:
            continue
        _update(state, phase, settings)
        state.batch, state.step = done, state.step + 1
        now = time.monotonic()
        state.metrics.seconds += now - last
        state.seconds += now - last
        last = now
        if (done // group) % _LOOK == 1 or done == total:
            state.metrics.check_finite(state.epoch)
        if job.after_step is not None:
            job.after_step(StepEvent(state.epoch, phase.name, done, total, state.metrics))
        _save_if_due(job.checkpointer, state, device, epoch_ends=done == total)
    if state.metrics.images == 0:
        raise FtwtError("fit: the training loader gave no images; give at least one batch")
    distributed.share_buffers(state.model)
    if state.average is not None:
        distributed.share_buffers(state.average)
    return state.metrics.means(shared=True)


def _loss(run: nn.Module, inputs: Any, wanted: Any) -> tuple[Tensor, dict[str, Tensor]]:
    try:
        result: tuple[Tensor, dict[str, Tensor]] = run(inputs, wanted)
    except IndexError as error:
        # So says cross entropy on the CPU; looking beforehand would wait for the device.
        strange = re.search(r"Target (-?\d+) is out of bounds", str(error))
        if strange is None:
            raise
        raise FtwtError(
            f"fit: a label is {strange[1]}, which the network has no output for; give a network "
            "with at least as many classes as the data"
        ) from None
    return result


def _rest(train: TrainingBatches, state: TrainingState) -> Iterator[Any]:
    """The epoch's batches that are not done yet."""
    if hasattr(train, "set_epoch"):
        train.set_epoch(state.epoch)
    if hasattr(train, "starting_at"):
        return iter(train.starting_at(state.batch))
    return itertools.islice(iter(train), state.batch, None)


def _move(inputs: Any, wanted: Any, device: torch.device, settings: Settings) -> tuple[Any, Any]:
    inputs, wanted = (moved(one, device) for one in (inputs, wanted))
    if settings.channels_last and isinstance(inputs, Tensor) and inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return inputs, wanted


def _update(state: TrainingState, phase: Phase, settings: Settings) -> None:
    """One step of the optimizers whose parts the phase trains."""
    active = [part for part in PARTS if part in state.optimizers and phase.trains(part)]
    if settings.clip_norm is not None:
        for part in active:
            state.scaler.unscale_(state.optimizers[part])
        nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip_norm)
    with warnings.catch_warnings():
        # The scaler leaves out steps whose gradients overflowed; schedules go on regardless.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for part in active:
            state.scaler.step(state.optimizers[part])
            state.schedulers[part].step()
    state.scaler.update()
    state.model.zero_grad(set_to_none=True)
    if state.average is not None:
        state.average.update_parameters(state.model)


def _save_if_due(
    checkpointer: Checkpointer | None,
    state: TrainingState,
    device: torch.device,
    *,
    epoch_ends: bool,
) -> None:
    """Save the state if it is time to, and stop if that was asked for."""
    if checkpointer is None:
        return
    number = 0
    if distributed.world().size == 1:
        number = checkpointer.asked_to_stop()
    elif device.type == "cpu" or state.step % _AGREE == 0:
        number = distributed.largest_over_processes(checkpointer.asked_to_stop(), device)
    due = checkpointer.every is not None and state.step % checkpointer.every == 0 and not epoch_ends
    if number or due:
        state.metrics.check_finite(state.epoch)
        checkpointer.save(state)
    if number:
        raise interrupted(state, number)


def interrupted(state: TrainingState, number: int) -> Interrupted:
    """The error that stops a training whose state is saved."""
    return Interrupted(
        f"fit: stopped by signal {number} in epoch {state.epoch + 1} after batch {state.batch}",
        number,
    )
