"""Accuracy and cost over a data set."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.model import Gated


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
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, dense_macs: int | None = None
) -> Evaluation:
    """Evaluate a gated or plain network; no graph is built and no target computed.

    Args:
        model: a gated network, or a plain one together with `dense_macs`.
        batches: images and labels.
        dense_macs: MACs of a plain network for one sample, to report; 0 if not given.
    """
    device = next(model.parameters()).device
    correct, macs, paper = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(3))
    images = 0
    with evaluating(model):
        for inputs, labels in batches:
            inputs, labels = inputs.to(device), labels.to(device)
            if isinstance(model, Gated):
                trace = model.trace(inputs, targets=False)
                output = trace.output
                macs += trace.macs.sum()
                paper += trace.paper_macs.sum()
            else:
                output = model(inputs)
            correct += (output.argmax(1) == labels).sum()
            images += len(labels)
    if images == 0:
        raise FtwtError("evaluate: the loader gave no images; give at least one batch")
    if isinstance(model, Gated):
        dense = model.dense_macs
        return Evaluation(
            correct.item() / images, images, dense, macs.item() / images, paper.item() / images
        )
    dense = dense_macs or 0
    return Evaluation(correct.item() / images, images, dense, float(dense), float(dense))


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
