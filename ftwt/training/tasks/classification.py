"""One class for each image."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ftwt.io.registry import register
from ftwt.losses import CrossEntropy, Objective, PixelCrossEntropy
from ftwt.losses.classification import (
    check_labels,
    check_scores,
    right_answers,
    which_right,
)
from ftwt.training.tasks.batches import OfTensors
from ftwt.training.tasks.located import Where
from ftwt.training.tasks.meters import MeanMeter

_TOP = 5


@register
@dataclass(frozen=True)
class Classification(OfTensors):
    """One class for each image: logits (B, classes), labels (B,).

    Metrics are "accuracy" and, of more than five classes, "top5": the share of images whose class
    is among the five with the largest logits. Batches are (images, labels).

    Attributes:
        logits: where they are in the network's output: a name of a dict or dataclass
            (`"logits"`), a place in a tuple (`0`), or a function (`lambda out: out[0]`; a
            registered one, where a run is to be saved). None: the output itself.
        maps: take maps of logits (B, classes, *space) with maps of labels (B, *space), too; an
            image then counts as the share of its positions that are right.
    """

    logits: Where = None
    maps: bool = False

    score = "accuracy"
    larger_is_better = True

    def loss(self) -> Objective:
        """Cross entropy."""
        return Objective.of(PixelCrossEntropy() if self.maps else CrossEntropy())

    def right(self, answer: Any, wanted: Any) -> Float[Tensor, ""]:
        """How many images are put into their class."""
        if self.maps:
            return right_answers(answer, wanted)
        return which_right(answer, wanted).sum().double()

    def meter(self, device: torch.device, *, shared: bool = False) -> MeanMeter:
        """Shares of images that are right."""
        return MeanMeter(self._seen, device, shared)

    def _seen(self, answer: Any, wanted: Any) -> dict[str, Tensor]:
        right = self.right(answer, wanted)
        # Here, and not in `right`, which training asks at each step: looking waits for a GPU.
        check_scores("accuracy", answer)
        if wanted.dim() == 1:
            check_labels("accuracy", wanted, answer.shape[1])
        sums = {"accuracy": right, "count": torch.full_like(right, len(wanted))}
        if answer.dim() == 2 and answer.shape[1] > _TOP:
            nearest = answer.topk(_TOP, 1).indices
            sums["top5"] = (nearest == wanted.to(nearest.device)[:, None]).any(1).sum()
        return sums


# What measures take where no task is given.
LABELLED = Classification(maps=True)
