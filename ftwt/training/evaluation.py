"""Accuracy and cost over a data set."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.losses.classification import right_answers
from ftwt.training.distributed import sum_over_processes
from ftwt.training.inspection import pairs


class Evaluation(NamedTuple):
    """Accuracy and cost over a data set; reductions are fractions of the plain network's MACs."""

    accuracy: float
    images: int
    dense_macs: int
    macs: float
    paper_macs: float

    @property
    def reduction_exact(self) -> float:
        """Share of the plain network's MACs that did not have to run, gates counted."""
        return 1 - self.macs / self.dense_macs if self.dense_macs else 0.0

    @property
    def reduction_paper(self) -> float:
        """The same in the paper's convention."""
        return 1 - self.paper_macs / self.dense_macs if self.dense_macs else 0.0


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    dense_macs: int | None = None,
    shared: bool = False,
) -> Evaluation:
    """Evaluate a gated, escalating or plain network; no graph is built and no target computed.

    Args:
        model: a gated or escalating network, or a plain one together with `dense_macs`.
        batches: images and labels.
        dense_macs: MACs of a plain network for one sample, to report; 0 if not given.
        shared: each process of a job gives its own part of the images, and each gets the result
            of all.

    Raises:
        FtwtError: there are no images, or the network is no classifier of them.
    """
    device = next(model.parameters()).device
    correct, macs, paper, count = (
        torch.zeros((), dtype=torch.float64, device=device) for _ in range(4)
    )
    with evaluating(model):
        for inputs, labels in pairs(batches, "evaluate"):
            inputs = inputs.to(device)
            if isinstance(model, (Gated, Escalating)):
                trace = model.trace(inputs, targets=False)
                output = trace.output
                macs += trace.macs.sum()
                paper += trace.paper_macs.sum()
            else:
                output = model(inputs)
            correct += right_answers(output, labels)
            count += len(labels)
    sums = torch.stack([correct, macs, paper, count])
    right, exact, in_paper, images = (sum_over_processes(sums) if shared else sums).tolist()
    if images == 0:
        raise FtwtError("evaluate: the loader gave no images; give at least one batch")
    if isinstance(model, (Gated, Escalating)):
        dense = model.dense_macs
    else:
        dense = dense_macs or 0
        exact = in_paper = dense * images
    return Evaluation(right / images, int(images), dense, exact / images, in_paper / images)


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
