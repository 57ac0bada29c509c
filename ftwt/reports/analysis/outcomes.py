"""What a gated network answered and spent image by image: cost by class and by confidence."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.losses.classification import which_right
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, check_gated, first


@dataclass(frozen=True)
class ImageGroup:
    """Some of the images: accuracy, exact and paper's MAC reduction on average; fractions."""

    name: str
    images: int
    accuracy: float
    reduction_exact: float
    reduction_paper: float

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers and strings."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Labels, answers, confidence (largest softmax probability) and MACs, in the loader's order."""

    dense_macs: int
    labels: Int64[Tensor, " N"]
    predicted: Int64[Tensor, " N"]
    confidence: Float64[Tensor, " N"]
    macs: Float64[Tensor, " N"]
    paper_macs: Float64[Tensor, " N"]

    def by_class(self, classes: Sequence[str]) -> tuple[ImageGroup, ...]:
        """One share for each class that has images."""
        return tuple(
            self._share(name, self.labels == label)
            for label, name in enumerate(classes)
            if bool((self.labels == label).any())
        )

    def by_confidence(self, parts: int = 5) -> tuple[ImageGroup, ...]:
        """Equally large parts of the images, the least confident first; named by confidence.

        Raises:
            FtwtError: there are fewer images than parts.
        """
        if len(self.labels) < parts:
            raise FtwtError(
                f"by_confidence: {len(self.labels)} images cannot make {parts} parts; "
                "give more images or fewer parts"
            )
        rows = []
        for places in self.confidence.argsort(stable=True).tensor_split(parts):
            chosen = torch.zeros_like(self.labels, dtype=torch.bool)
            chosen[places] = True
            low, high = self.confidence[places].min().item(), self.confidence[places].max().item()
            rows.append(self._share(f"{100 * low:.2f} to {100 * high:.2f} %", chosen))
        return tuple(rows)

    @property
    def correlation(self) -> float | None:
        """Pearson's correlation of exact MACs and confidence; None where one never varies.

        Below zero: the network spends more on images that it is less sure of.
        """
        both = torch.stack([self.macs, self.confidence])
        if bool((both.std(1) == 0).any()):
            return None
        return torch.corrcoef(both)[0, 1].item()

    def _share(self, name: str, chosen: Tensor) -> ImageGroup:
        return ImageGroup(
            name=name,
            images=int(chosen.sum()),
            accuracy=(self.predicted == self.labels)[chosen].double().mean().item(),
            reduction_exact=1 - self.macs[chosen].mean().item() / self.dense_macs,
            reduction_paper=1 - self.paper_macs[chosen].mean().item() / self.dense_macs,
        )


def outcomes(model: Gated, loader: Loader, *, limit: int | None = None) -> Outcomes:
    """Note what a gated network answers and spends for each image, in evaluation mode.

    Raises:
        FtwtError: the network has no gates, the loader is empty, or `limit` is below 1.
    """
    check_gated(model, "outcomes")
    device = next(model.parameters()).device
    columns: list[tuple[Tensor, ...]] = []
    with evaluating(model):
        for images, labels in first(loader, limit, "outcomes"):
            trace = model.trace(images.to(device), targets=False)
            which_right(trace.output, labels)
            confidence, predicted = trace.output.double().softmax(1).max(1)
            costs = trace.macs.double(), trace.paper_macs.double()
            columns.append(tuple(one.cpu() for one in (labels, predicted, confidence, *costs)))
    whole = [torch.cat(column).clone() for column in zip(*columns, strict=True)]
    return Outcomes(model.dense_macs, *whole)
