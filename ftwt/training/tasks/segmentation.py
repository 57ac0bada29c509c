"""One class for each position."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ftwt.errors import FtwtError, check_whole
from ftwt.io.registry import register
from ftwt.losses import Objective, PixelCrossEntropy
from ftwt.losses.classification import (
    VOID,
    check_scores,
    known_positions,
    need_maps,
    right_answers,
)
from ftwt.training.tasks.batches import OfTensors
from ftwt.training.tasks.located import Where
from ftwt.training.tasks.meters import MeanMeter, TorchmetricsMeter, TwoMeters, torchmetrics


@register
@dataclass(frozen=True)
class Segmentation(OfTensors):
    """One class for each position: logits (B, classes, H, W), labels (B, H, W).

    Metrics are "mean_iou", the mean over classes of intersection over union, counted over all
    positions of all images (torchmetrics' Jaccard index; classes that neither appear nor are
    answered are left out), and "accuracy", the share of positions that are right, by image.
    Positions labelled -100 or 255 are left out. Batches are (images, labels).

    Attributes:
        classes: how many.
        logits: where they are in the network's output, as for `Classification`.

    Raises:
        FtwtError: fewer than two classes.
    """

    classes: int
    logits: Where = None

    score = "mean_iou"
    larger_is_better = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("Segmentation", "classes", self.classes, least=2)

    def loss(self) -> Objective:
        """Cross entropy of each position."""
        return Objective.of(PixelCrossEntropy())

    def right(self, answer: Any, wanted: Any) -> Float[Tensor, ""]:
        """Shares of positions that are right, summed over the images."""
        maps, labels = need_maps("Segmentation", answer, wanted)
        return right_answers(maps, labels)

    def meter(self, device: torch.device, *, shared: bool = False) -> TwoMeters:
        """Mean intersection over union, and accuracy."""
        index = torchmetrics("classification", "Segmentation").MulticlassJaccardIndex(
            self.classes, ignore_index=VOID[0], sync_on_compute=shared
        )
        overlap = TorchmetricsMeter(index.to(device), self._prepared, {"mean_iou": ""})
        return TwoMeters(overlap, MeanMeter(self._seen, device, shared))

    def _prepared(self, answer: Any, wanted: Any) -> tuple[Tensor, Tensor]:
        maps, labels = need_maps("Segmentation", answer, wanted)
        if maps.shape[1] != self.classes:
            raise FtwtError(
                f"Segmentation: the network answers {maps.shape[1]} classes, the task has "
                f"{self.classes}; give Segmentation(classes={maps.shape[1]})"
            )
        check_scores("Segmentation", maps)
        labels = labels.to(maps.device)
        known_positions("Segmentation", labels, self.classes)
        return maps.argmax(1), labels.masked_fill(labels == VOID[1], VOID[0])

    def _seen(self, answer: Any, wanted: Any) -> dict[str, Tensor]:
        right = self.right(answer, wanted)
        return {"accuracy": right, "count": torch.full_like(right, len(wanted))}
