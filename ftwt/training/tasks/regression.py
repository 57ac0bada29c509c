"""Numbers for each input."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ftwt.io.registry import register
from ftwt.losses import MeanSquaredError, Objective
from ftwt.losses.mean_squared_error import need_numbers
from ftwt.training.tasks.batches import OfTensors
from ftwt.training.tasks.located import Where
from ftwt.training.tasks.meters import MeanMeter


@register
@dataclass(frozen=True)
class Regression(OfTensors):
    """Numbers for each input, one or a map of them: output and labels of one shape (B, ...).

    Metrics are "mean_squared_error", which says what is better, and "mean_absolute_error", both
    over all numbers. Batches are (images, numbers).

    `logits` says where the numbers are in the network's output, as for `Classification`.
    """

    logits: Where = None

    score = "mean_squared_error"
    larger_is_better = False

    def loss(self) -> Objective:
        """Mean squared error."""
        return Objective.of(MeanSquaredError())

    def right(self, answer: Any, wanted: Any) -> None:
        """Nothing: no number is right or wrong."""
        need_numbers("Regression", answer, wanted)

    def meter(self, device: torch.device, *, shared: bool = False) -> MeanMeter:
        """Mean errors."""
        return MeanMeter(_seen, device, shared)


def _seen(answer: Any, wanted: Any) -> dict[str, Tensor]:
    numbers, labels = need_numbers("Regression", answer, wanted)
    error = (numbers - labels).double()
    return {
        "mean_squared_error": error.square().sum(),
        "mean_absolute_error": error.abs().sum(),
        "count": error.new_tensor(error.numel()),
    }
