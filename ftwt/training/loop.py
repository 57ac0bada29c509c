"""The training loop: plain functions over a state."""

import copy
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.losses.interface import Objective
from ftwt.training import distributed
from ftwt.training.evaluation import Evaluation, evaluate
from ftwt.training.phases import Phase, enter, epochs_of, phase_at
from ftwt.training.settings import Settings
from ftwt.training.signals import Interrupted
from ftwt.training.state import PARTS, State, check_amp
from ftwt.training.step import Step, objective_of
from ftwt.training.tally import Means, Tally

# Steps between looks at values on the device, each of which waits for it.
_LOOK = 25
# Steps between questions whether any process of the job was asked to stop. These wait for a GPU.
_AGREE = 10


@runtime_checkable
class Batches(Protocol):
    """Training batches: sized, iterable again and again.

    Where they have `set_epoch(epoch)` it is called before each epoch. Where they have
    `starting_at(batch)` a resumed epoch asks for its later batches so, else earlier ones are drawn
    and dropped.
    """

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


class Moment(NamedTuple):
    """Where a training is after a step. Reading means off the tally waits for the device."""

    epoch: int
    phase: str
    batch: int
    batches: int
    tally: Tally


@dataclass(frozen=True)
class Keeper:
    """How a state is kept on disk, and when.

    Attributes:
        save: writes the state; called by all processes, after each epoch at least.
        every: steps between two calls within an epoch.
        asked_to_stop: the number of a signal that came, or 0.
    """

    save: Callable[[State], None]
    every: int | None = None
    asked_to_stop: Callable[[], int] = lambda: 0


@dataclass(frozen=True)
class _Job:
    """What an epoch is trained with."""

    objective: Objective
    settings: Settings
    train: Batches
    keeper: Keeper | None
    after_step: Callable[[Moment], None] | None


def fit(
    state: State,
    objective: Objective,
    settings: Settings,
    train: Batches,
    validation: Iterable[tuple[Tensor, Tensor]],
    *,
    after_step: Callable[[Moment], None] | None = None,
    after_epoch: Callable[[Epoch, State], None] | None = None,
    keeper: Keeper | None = None,
) -> State:
    """Train from `state` to the end and load the best weights into the model.

    The best epoch is that of the highest validation accuracy in the last phase: earlier phases
    are not the finished model.

    In a job of many processes each gives its own part of the images, of equally many training
    batches; gradients are averaged and results are of all images together.

    Raises:
        FtwtError: a loss is not finite. The model then holds the weights of the last good epoch.
        Interrupted: a signal asked to stop; the state is saved.
    """
    model = state.model
    device = next(model.parameters()).device
    check_amp(settings, device)
    job = _Job(objective, settings, train, keeper, after_step)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    good = _copy(model)
    while state.epoch < epochs_of(settings.phases):
        begin, before = time.monotonic(), state.seconds
        phase = phase_at(settings.phases, state.epoch)
        try:
            means = _train_epoch(job, state, phase)
            result = evaluate(
                state.validated,
                _until_stopped(validation, state, keeper),
                shared=distributed.world().size > 1,
            )
        except FtwtError:
            model.load_state_dict(good)
            raise
        row = Epoch(
            epoch=state.epoch,
            phase=phase.name,
            losses=means.losses,
            train_accuracy=means.accuracy,
            mask_accuracy=means.mask_accuracy,
            validation=result,
            learning_rates={
                part: one.param_groups[0]["lr"] for part, one in state.optimizers.items()
            },
            seconds=state.tally.seconds,
            images_per_second=means.images_per_second,
        )
        good = _copy(model)
        if phase == settings.phases[-1] and result.accuracy > state.best_accuracy:
            state.best_accuracy, state.best_epoch = result.accuracy, state.epoch
            state.best_weights = good if state.average is None else _copy(state.average.module)
        state.epoch, state.batch, state.tally = state.epoch + 1, 0, Tally()
        state.seconds = before + time.monotonic() - begin
        if after_epoch is not None:
            after_epoch(row, state)
        if keeper is not None:
            keeper.save(state)
    if state.best_weights:
        model.load_state_dict(state.best_weights)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return state


def _train_epoch(job: _Job, state: State, phase: Phase) -> Means:
    settings, device = job.settings, next(state.model.parameters()).device
    enter(phase, state.model)
    step = Step(
        state.model,
        objective_of(phase, job.objective),
        targets=phase.trains("gates"),
        amp=settings.amp,
    )
    if settings.compile:
        step.compile()
    run: nn.Module | None = None
    total, group = len(job.train), settings.accumulate
    last = time.monotonic()
    state.model.zero_grad(set_to_none=True)
    for done, (images, labels) in enumerate(_rest(job.train, state), state.batch + 1):
        whole = done % group == 0 or done == total
        # The last step of an epoch may have fewer batches.
        share = group if done <= total - total % group else total % group
        images, labels = _move(images, labels, device, settings)
        run = run or distributed.parallel(step, images, labels)
        with distributed.without_averaging(run) if not whole else nullcontext():
            loss, sums = _loss(run, images, labels)
            torch.autograd.backward(state.scaler.scale(loss / share))
        state.tally.add(sums, len(labels))
        if not whole:
            continue
        _update(state, phase, settings)
        state.batch, state.step = done, state.step + 1
        now = time.monotonic()
        state.tally.seconds += now - last
        state.seconds += now - last
        last = now
        if (done // group) % _LOOK == 1 or done == total:
            state.tally.check_finite(state.epoch)
        if job.after_step is not None:
            job.after_step(Moment(state.epoch, phase.name, done, total, state.tally))
        _keep(job.keeper, state, device, epoch_ends=done == total)
    if state.tally.images == 0:
        raise FtwtError("fit: the training loader gave no images; give at least one batch")
    distributed.share_buffers(state.model)
    if state.average is not None:
        distributed.share_buffers(state.average)
    return state.tally.means(shared=True)


def _loss(run: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    try:
        result: tuple[Tensor, dict[str, Tensor]] = run(images, labels)
    except IndexError as error:
        # So says cross entropy on the CPU; looking beforehand would wait for the device.
        if "out of bounds" not in str(error):
            raise
        raise FtwtError(
            f"fit: a label is {int(labels.max())}, which the network has no output for; give a "
            "network with at least as many classes as the data"
        ) from None
    return result


def _rest(train: Batches, state: State) -> Iterator[tuple[Tensor, Tensor]]:
    """The epoch's batches that are not done yet."""
    if hasattr(train, "set_epoch"):
        train.set_epoch(state.epoch)
    if hasattr(train, "starting_at"):
        return iter(train.starting_at(state.batch))
    return itertools.islice(iter(train), state.batch, None)


def _move(
    images: Tensor, labels: Tensor, device: torch.device, settings: Settings
) -> tuple[Tensor, Tensor]:
    images, labels = (one.to(device, non_blocking=True) for one in (images, labels))
    if settings.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, labels


def _update(state: State, phase: Phase, settings: Settings) -> None:
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


def _keep(keeper: Keeper | None, state: State, device: torch.device, *, epoch_ends: bool) -> None:
    """Save the state if it is time to, and stop if that was asked for."""
    if keeper is None:
        return
    number = 0
    if distributed.world().size == 1:
        number = keeper.asked_to_stop()
    elif device.type == "cpu" or state.step % _AGREE == 0:
        number = distributed.largest_over_processes(keeper.asked_to_stop(), device)
    due = keeper.every is not None and state.step % keeper.every == 0 and not epoch_ends
    if number or due:
        state.tally.check_finite(state.epoch)
        keeper.save(state)
    if number:
        raise _interrupted(state, number)


def _until_stopped(
    validation: Iterable[tuple[Tensor, Tensor]], state: State, keeper: Keeper | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The validation batches; a resumed run begins with them again."""
    for batch in validation:
        yield batch
        # Many processes have different numbers of batches here, and go through.
        if keeper is not None and distributed.world().size == 1 and keeper.asked_to_stop():
            keeper.save(state)
            raise _interrupted(state, keeper.asked_to_stop())


def _interrupted(state: State, number: int) -> Interrupted:
    return Interrupted(
        f"fit: stopped by signal {number} in epoch {state.epoch + 1} after batch {state.batch}",
        number,
    )


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: value.detach() for name, value in model.state_dict().items()})
