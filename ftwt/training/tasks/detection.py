"""Boxes in each image, by torchvision's detectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.io.registry import register
from ftwt.losses import ModelLosses, Objective
from ftwt.training.tasks.meters import TorchmetricsMeter, torchmetrics

_ANSWERS, _TARGETS = {"boxes", "labels", "scores"}, {"boxes", "labels"}
_METRICS = {"map": "map", "map_50": "map_50", "map_75": "map_75", "recall": "mar_100"}


@register
@dataclass(frozen=True)
class Detection:
    """Boxes in each image, as torchvision's detectors take and give them.

    Batches are (images, targets): a list of images (3, H, W) of any sizes, and for each a dict with
    "boxes" (N, 4), as left, top, right, bottom in pixels, and "labels" (N,). In training mode such
    a network is shown both and returns its own losses by name, which `losses.ModelLosses` adds up;
    in evaluation mode it returns "boxes", "labels" and "scores" of each image.

    Metrics are "map", the mean average precision over overlaps from 0.5 to 0.95 as COCO counts it
    (torchmetrics), which says what is better, "map_50", "map_75" and "recall" of up to 100 boxes.

    Such networks do not trace as a whole; their backbones do: `detector.backbone =
    ftwt.attach(detector.backbone, pruning, example=...)`. MACs are then the backbone's.
    """

    score = "map"
    larger_is_better = True

    def pair(self, batch: Any, called: str) -> tuple[list[Tensor], list[Mapping[str, Tensor]]]:
        """Images and targets."""
        fits = isinstance(batch, (tuple, list)) and len(batch) == 2
        images, targets = (list(part) for part in batch) if fits else ([], [batch])
        if len(images) != len(targets) or not all(
            isinstance(one, Tensor) and one.dim() == 3 for one in images
        ):
            raise FtwtError(
                f"{called}: the loader gave no batch of (images, targets); Detection takes a list "
                "of images (3, H, W) and a dict of boxes and labels for each"
            )
        for one in targets:
            _check(f"{called}: a target", one, _TARGETS)
            _check_boxes(f"{called}: a target", one)
        return images, targets

    def ask(self, network: nn.Module, inputs: Any, wanted: Any) -> Any:
        """Losses by name in training mode, else boxes."""
        return network(inputs, wanted) if network.training else network(inputs)

    def answer(self, output: Any) -> Any:
        """The output itself."""
        return output

    def loss(self) -> Objective:
        """The sum of what the network returns in training mode."""
        return Objective.of(ModelLosses())

    def right(self, answer: Any, wanted: Any) -> None:
        """Nothing: in training mode such networks return no boxes."""

    def meter(self, device: torch.device, *, shared: bool = False) -> TorchmetricsMeter:
        """Mean average precision."""
        module = torchmetrics("detection", "Detection")
        try:
            metric = module.MeanAveragePrecision(sync_on_compute=shared)
        except ModuleNotFoundError:
            raise FtwtError(
                "Detection: torchmetrics counts average precision with pycocotools, which is not "
                "installed; run `pip install ftwt[tasks]`"
            ) from None
        # COCO counts the 100 best boxes of an image; that there are more is no mistake.
        metric.warn_on_many_detections = False
        return TorchmetricsMeter(metric, _prepared, _METRICS)


def _prepared(answer: Any, wanted: Any) -> tuple[list[Any], list[Any]]:
    if not isinstance(answer, list) or len(answer) != len(wanted):
        raise FtwtError(
            f"Detection: the network's output is {type(answer).__name__}, expected a list with "
            "boxes, labels and scores of each image, as torchvision's detectors give it; "
            "give the task that the network is for"
        )
    for one in answer:
        _check("Detection: an answer", one, _ANSWERS)
    return [_plain(one, _ANSWERS) for one in answer], [_plain(one, _TARGETS) for one in wanted]


def _plain(one: Mapping[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    return {name: one[name].detach().cpu() for name in names}


def _check_boxes(called: str, one: Mapping[str, Tensor]) -> None:
    """Raise FtwtError unless a target's boxes have an area, and its labels are classes."""
    boxes, labels = one["boxes"], one["labels"]
    if not boxes.is_floating_point() or labels.is_floating_point() or labels.is_complex():
        raise FtwtError(
            f"{called} has boxes of type {boxes.dtype} with labels of type {labels.dtype}, "
            "expected floating point and whole numbers"
        )
    bad = boxes[~(boxes[:, 2:] > boxes[:, :2]).all(1)]
    if len(bad):
        raise FtwtError(
            f"{called} has the box {tuple(bad[0].tolist())}, which has no area; give left, top, "
            "right, bottom in pixels, and leave out boxes without an area"
        )


def _check(called: str, one: Any, names: set[str]) -> None:
    """Raise FtwtError unless a mapping holds boxes that fit together."""
    missing = names - set(one) if isinstance(one, Mapping) else names
    if missing or not all(isinstance(one[name], Tensor) for name in names):
        raise FtwtError(
            f"{called} has no {' and '.join(sorted(missing)) or 'tensors'}; give a dict with "
            f"{', '.join(sorted(names))}"
        )
    boxes, labels = one["boxes"], one["labels"]
    if boxes.dim() != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        raise FtwtError(
            f"{called} has boxes of shape {tuple(boxes.shape)} with labels of shape "
            f"{tuple(labels.shape)}, expected (N, 4) and (N,)"
        )
