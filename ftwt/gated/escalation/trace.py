"""What one pass through an escalating network showed."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ftwt.gated.trace import Trace


class SettingPass(NamedTuple):
    """One setting's part of a batch: places in the batch, what the setting did, how sure it was."""

    images: Int[Tensor, "n"]
    trace: Trace
    sureness: Float[Tensor, "n"] | None


class EscalationTrace(NamedTuple):
    """One pass over a batch: the output, which settings ran for whom, and what they cost.

    A setting that no image reached has no pass.
    """

    output: Any
    passes: tuple[SettingPass, ...]
    # MACs of the plain network for one sample: of the largest, if settings differ in theirs.
    dense_macs: int

    @property
    def answered(self) -> Int[Tensor, "B"]:
        """Place of the last setting that ran for each image."""
        answered = torch.zeros_like(self.passes[0].images)
        for place, one in enumerate(self.passes):
            answered[one.images] = place
        return answered

    @property
    def macs(self) -> Int[Tensor, "B"]:
        """Exact MACs of each image: the sum of all its passes, gates included."""
        return self._sum([one.trace.macs for one in self.passes])

    @property
    def paper_macs(self) -> Int[Tensor, "B"]:
        """The same in the paper's convention."""
        return self._sum([one.trace.paper_macs for one in self.passes])

    @property
    def masks(self) -> tuple[dict[str, Bool[Tensor, "B C"]], ...]:
        """For each pass the mask of each site; all off for images that the pass did not run for."""
        return tuple(
            {name: self._spread(one.images, mask) for name, mask in one.trace.masks.items()}
            for one in self.passes
        )

    def _sum(self, macs: list[Tensor]) -> Tensor:
        total = torch.zeros_like(macs[0])
        for one, own in zip(self.passes, macs, strict=True):
            total = total.index_add(0, one.images.to(own.device), own)
        return total

    def _spread(self, images: Tensor, mask: Tensor) -> Tensor:
        whole = mask.new_zeros(len(self.passes[0].images), mask.shape[1])
        return whole.index_copy(0, images.to(mask.device), mask)
