"""The task's loss for classification."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ftwt.errors import check_within
from ftwt.losses.classification import VOID, check_labels, need_classes, need_logits
from ftwt.losses.interface import TracedPass, add, add_to, need_labels, scaled


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross entropy of the network's output with the labels."""

    label_smoothing: float = 0.0

    __add__, __radd__ = add, add_to
    __mul__ = __rmul__ = scaled

    def __post_init__(self) -> None:
        mend = "give the share of each label that all classes get, for example 0.1"
        check_within("CrossEntropy", "label_smoothing", self.label_smoothing, "[0, 1)", mend)

    def __call__(self, trace: TracedPass, labels: Any = None) -> Float[Tensor, ""]:
        """Return the loss in nats."""
        wanted = need_labels("CrossEntropy", labels)
        logits = need_logits("CrossEntropy", trace.output)
        soft = wanted.is_floating_point() and wanted.shape == logits.shape
        wanted = wanted if soft else need_classes("CrossEntropy", wanted, len(logits))
        try:
            return F.cross_entropy(logits, wanted, label_smoothing=self.label_smoothing)
        except IndexError:
            # Found by torch on a CPU; to look beforehand would make a GPU wait.
            check_labels("CrossEntropy", wanted[wanted != VOID[0]], logits.shape[1])
            raise
