"""The task's loss for segmentation."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ftwt.losses.classification import VOID, need_maps
from ftwt.losses.interface import TracedPass, add, add_to, need_labels, scaled


@dataclass(frozen=True)
class PixelCrossEntropy:
    """Mean cross entropy of maps of logits (B, classes, *space) with maps of labels (B, *space).

    Over all positions of the batch, or images where there are none, but those labelled -100 or 255.
    """

    __add__, __radd__ = add, add_to
    __mul__ = __rmul__ = scaled

    def __call__(self, trace: TracedPass, labels: Any = None) -> Float[Tensor, ""]:
        """Return the loss in nats; 0 where no position has a label."""
        wanted = need_labels("PixelCrossEntropy", labels)
        maps, wanted = need_maps("PixelCrossEntropy", trace.output, wanted, positions=False)
        wanted = wanted.masked_fill(wanted == VOID[1], VOID[0])
        total = F.cross_entropy(maps, wanted, ignore_index=VOID[0], reduction="sum")
        return total / (wanted != VOID[0]).sum().clamp(min=1)
