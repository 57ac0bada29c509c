"""The training loop: plain functions over a state."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.losses.interface import Objective
from ftwt.training import distributed
from ftwt.training.epoch import (
    Checkpointer,
    EpochInputs,
    StepEvent,
    TrainingBatches,
    interrupted,
    train_epoch,
)
from ftwt.training.evaluation import Evaluation, evaluate, is_better
from ftwt.training.metrics import Metrics
from ftwt.training.phases import Phase, begins, epochs_of, leave, phase_at, quick_norms
from ftwt.training.settings import Settings
from ftwt.training.state import TrainingState, check_amp
from ftwt.training.tasks import LABELLED, Task


class Epoch(NamedTuple):
    """What one epoch of training and its validation gave; fractions and seconds.

    `train_accuracy` is None where the task cannot tell it while it trains.
    """

    epoch: int
    phase: str
    losses: dict[str, float]
    train_accuracy: float | None
    mask_accuracy: float | None
    validation: Evaluation
    learning_rates: dict[str, float]
    seconds: float
    images_per_second: float


BeforePhase: TypeAlias = Callable[[Phase, TrainingState], None]


def fit(
    state: TrainingState,
    objective: Objective,
    settings: Settings,
    train: TrainingBatches,
    validation: Iterable[Any],
    *,
    task: Task = LABELLED,
    before_phase: BeforePhase | None = None,
    after_step: Callable[[StepEvent], None] | None = None,
    after_epoch: Callable[[Epoch, TrainingState], None] | None = None,
    checkpointer: Checkpointer | None = None,
) -> TrainingState:
    """Train from `state` to the end and load the best weights into the model.

    The best epoch is that of the best validation score, the task's, in the last phase: earlier
    phases are not the finished model. The task says what batches are and which score is better; by
    default it is classification, by accuracy. A network that holds a gated one trains as well.

    `before_phase` is called where a phase begins, once more if a training goes on from there; it
    may change the state, and gives the same for the same state.

    In a job of many processes each gives its own part of the images, of equally many training
    batches; gradients are averaged and results are of all images together.

    Raises:
        FtwtError: a loss is not finite. The model then holds the weights of the last good epoch.
        Interrupted: a signal asked to stop; the state is saved.
    """
    try:
        with quick_norms(state.model, settings.norm_momentum):
            return _fitted(
                state,
                EpochInputs(objective, settings, train, checkpointer, after_step, task),
                validation,
                before_phase=before_phase,
                after_epoch=after_epoch,
            )
    finally:
        leave(state.model)


def _fitted(
    state: TrainingState,
    job: EpochInputs,
    validation: Iterable[Any],
    *,
    before_phase: BeforePhase | None,
    after_epoch: Callable[[Epoch, TrainingState], None] | None,
) -> TrainingState:
    settings, checkpointer = job.settings, job.checkpointer
    model = state.model
    device = next(model.parameters()).device
    check_amp(settings, device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    good = _copy(model)
    while state.epoch < epochs_of(settings.phases):
        begin, before = time.monotonic(), state.seconds
        phase = phase_at(settings.phases, state.epoch)
        try:
            if (
                before_phase is not None
                and state.batch == 0
                and begins(settings.phases, state.epoch)
            ):
                before_phase(phase, state)
            means = train_epoch(job, state, phase)
            result = evaluate(
                phase.validated(state.validated),
                _until_stopped(validation, state, checkpointer),
                task=job.task,
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
            seconds=state.metrics.seconds,
            images_per_second=means.images_per_second,
        )
        good = _copy(model)
        score = result.metrics[job.task.score]
        if phase == settings.phases[-1] and is_better(job.task, score, state.best_score):
            state.best_score, state.best_epoch = score, state.epoch
            state.best_weights = good if state.average is None else _copy(state.average.module)
        state.epoch, state.batch, state.metrics = state.epoch + 1, 0, Metrics()
        state.seconds = before + time.monotonic() - begin
        if after_epoch is not None:
            after_epoch(row, state)
        if checkpointer is not None:
            checkpointer.save(state)
    if state.best_weights:
        model.load_state_dict(state.best_weights)
    return state


def _until_stopped(
    validation: Iterable[Any], state: TrainingState, checkpointer: Checkpointer | None
) -> Iterator[Any]:
    """The validation batches; a resumed run begins with them again."""
    for batch in validation:
        yield batch
        # Many processes have different numbers of batches here, and go through.
        if (
            checkpointer is not None
            and distributed.world().size == 1
            and checkpointer.asked_to_stop()
        ):
            checkpointer.save(state)
            raise interrupted(state, checkpointer.asked_to_stop())


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: value.detach() for name, value in model.state_dict().items()})
