"""Accuracy and cost over a data set."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.within import gated_in, noting
from ftwt.training.distributed import sum_over_processes
from ftwt.training.inspection import pairs
from ftwt.training.tasks import LABELLED, Task
from ftwt.training.tasks.batches import moved


class Evaluation(NamedTuple):
    """Metrics and cost over a data set; reductions are fractions of the plain network's MACs.

    `metrics` are the task's, by name; `accuracy` is the one of that name, NaN for a task without.
    """

    accuracy: float
    images: int
    dense_macs: int
    macs: float
    paper_macs: float
    metrics: Mapping[str, float] = MappingProxyType({})

    @property
    def reduction_exact(self) -> float:
        """Share of the plain network's MACs that did not have to run, gates counted."""
        return 1 - self.macs / self.dense_macs if self.dense_macs else 0.0

    @property
    def reduction_paper(self) -> float:
        """The same in the paper's convention."""
        return 1 - self.paper_macs / self.dense_macs if self.dense_macs else 0.0

    def to_json(self) -> dict[str, Any]:
        """All fields; an accuracy that there is not is None."""
        known = self.accuracy if math.isfinite(self.accuracy) else None
        return {**self._asdict(), "accuracy": known, "metrics": dict(self.metrics)}


def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    task: Task = LABELLED,
    dense_macs: int | None = None,
    shared: bool = False,
) -> Evaluation:
    """Evaluate a gated, escalating or plain network; no graph is built and no target computed.

    Args:
        model: a gated or escalating network, a network that holds a gated one (whose MACs are then
            counted, at the size at which it is run), or a plain one together with `dense_macs`.
        batches: what the task takes, usually images and labels.
        task: what the network is for, such as `training.tasks.Segmentation(classes=21)`; by default
            one class for each image, or for each position where labels are maps.
        dense_macs: MACs of a plain network for one sample, to report; 0 if not given.
        shared: each process of a job gives its own part of the images, and each gets the result
            of all.

    Raises:
        FtwtError: there are no images, or outputs or labels do not fit the task.
    """
    device = next(model.parameters()).device
    meter = task.meter(device, shared=shared)
    held = gated_in(model)
    # Exact and paper MACs, those of the plain network, images.
    counts = torch.zeros(4, dtype=torch.float64, device=device)
    with evaluating(model):
        for inputs, wanted in pairs(batches, "evaluate", task):
            inputs, wanted = moved(inputs, device), moved(wanted, device)
            if isinstance(model, (Gated, Escalating)):
                trace = model.trace(inputs, targets=False)
                output, dense = trace.output, model.dense_macs * len(wanted)
                counts[:2] += torch.stack([trace.macs.sum(), trace.paper_macs.sum()])
            elif held is not None:
                with noting(held, targets=False) as notes:
                    output = task.ask(model, inputs, wanted)
                dense = sum(note.plan.dense_macs * len(note.macs) for note in notes)
                for note in notes:
                    counts[:2] += torch.stack([note.macs.sum(), note.paper_macs.sum()])
            else:
                output, dense = task.ask(model, inputs, wanted), (dense_macs or 0) * len(wanted)
                counts[:2] += dense
            meter.update(task.answer(output), wanted)
            counts[2:] += counts.new_tensor([dense, len(wanted)])
    exact, in_paper, dense_sum, images = (sum_over_processes(counts) if shared else counts).tolist()
    if images == 0:
        raise FtwtError("evaluate: the loader gave no images; give at least one batch")
    metrics = dict(meter.compute())
    return Evaluation(
        metrics.get("accuracy", math.nan),
        int(images),
        round(dense_sum / images),
        exact / images,
        in_paper / images,
        metrics,
    )


def is_better(task: Task, one: float, other: float | None) -> bool:
    """Whether a task's score is better than another one, or than none."""
    if other is None:
        return True
    return one > other if task.larger_is_better else one < other


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without a graph; afterwards every module is back in its own mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
