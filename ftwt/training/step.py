"""One training step's forward pass and losses, in one module."""

import torch
from torch import Tensor, nn

from ftwt.gated.model import Gated, TaskLoss
from ftwt.gated.trace import Trace
from ftwt.losses.interface import Objective
from ftwt.macs import Plan
from ftwt.training.metrics import seen
from ftwt.training.phases import Phase
from ftwt.training.precision import Half

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Step(nn.Module):
    """Forward pass and losses as a module, which DistributedDataParallel and compilation want.

    Of what it returns, only the loss has a graph.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, *, phase: Phase, amp: Half | None
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective_of(phase, objective)
        self.phase = phase
        self.amp = amp

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise, and what the batch adds to a `Metrics`."""
        with torch.autocast(
            images.device.type,
            _DTYPES[self.amp] if self.amp else None,
            enabled=self.amp is not None,
        ):
            model = self.phase.sampled(self.model)
            trace = observe(
                model,
                images,
                targets=self.phase.trains("gates"),
                loss=lambda trace: self.objective.without_gates()(trace, labels).total,
            )
        report = self.objective(trace, labels)
        return report.total, seen(trace, labels, report)


def observe(
    model: nn.Module, images: Tensor, *, targets: bool = True, loss: TaskLoss | None = None
) -> Trace:
    """Trace a gated network; a plain one gives a trace without sites."""
    if isinstance(model, Gated):
        return model.trace(images, targets=targets, loss=loss)
    return Trace(model(images), {}, (images,), lambda _: Plan(()))


def objective_of(phase: Phase, objective: Objective) -> Objective:
    """The losses that have something to train in a phase."""
    return objective if phase.trains("gates") else objective.without_gates()
