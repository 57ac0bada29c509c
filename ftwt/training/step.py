"""One training step's forward pass and losses, in one module."""

from typing import Any

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated, TaskLoss
from ftwt.gated.trace import Trace
from ftwt.gated.within import gated_in, noting
from ftwt.losses.interface import Objective
from ftwt.macs import Plan
from ftwt.training.metrics import batch_sums
from ftwt.training.phases import Phase
from ftwt.training.precision import Half
from ftwt.training.tasks import LABELLED, Task

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingStep(nn.Module):
    """Forward pass and losses as a module, which DistributedDataParallel and compilation want.

    Of what it returns, only the loss has a graph.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        *,
        phase: Phase,
        amp: Half | None,
        task: Task = LABELLED,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective_of(phase, objective)
        self.phase = phase
        self.amp = amp
        self.task = task

    def forward(self, inputs: Any, wanted: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise, and what the batch adds to a `Metrics`."""
        with torch.autocast(
            next(self.model.parameters()).device.type,
            _DTYPES[self.amp] if self.amp else None,
            enabled=self.amp is not None,
        ):
            model = self.phase.sampled(self.model)
            trace = observe(
                model,
                inputs,
                wanted,
                task=self.task,
                targets=self.phase.trains("gates"),
                loss=lambda trace: (
                    self.objective.without_gates()(answered(trace, self.task), wanted).total
                ),
            )
        trace = answered(trace, self.task)
        report = self.objective(trace, wanted)
        return report.total, batch_sums(trace, wanted, report, self.task)


def observe(
    model: nn.Module,
    inputs: Any,
    wanted: Any = None,
    *,
    task: Task = LABELLED,
    targets: bool = True,
    loss: TaskLoss | None = None,
    whole: bool = True,
) -> Trace:
    """Trace a gated network, or one that holds one; a plain one gives a trace without sites.

    The output is that of the whole network, or of the gated one that it holds.

    Raises:
        FtwtError: a network that is held ran several times, or has targets that need a gradient.
    """
    if isinstance(model, Gated):
        return model.trace(inputs, targets=targets, loss=loss)
    held = gated_in(model)
    if held is None:
        return Trace(task.ask(model, inputs, wanted), {}, (inputs,), lambda _: Plan(()))
    with noting(held, targets=targets) as notes:
        output = task.ask(model, inputs, wanted)
    if len(notes) != 1:
        raise FtwtError(
            f"{type(model).__name__} ran the gated network that it holds {len(notes)} times for a "
            "batch, expected once; train what ftwt.attach returns by itself"
        )
    return notes[0]._replace(output=output) if whole else notes[0]


def answered(trace: Trace, task: Task) -> Trace:
    """The trace with what the task reads in place of the whole output."""
    return trace._replace(output=task.answer(trace.output))


def objective_of(phase: Phase, objective: Objective) -> Objective:
    """The losses that have something to train in a phase."""
    return objective if phase.trains("gates") else objective.without_gates()
