"""Rows: which sample each row of a tensor belongs to, where a sample has several.

A network may run both images of a pair, windows of an image or frames of a film as one batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class SampleRows:
    """Each sample's rows: `each` of them, side by side or one in every batch of them.

    With two samples and `each` 2, side by side is 0 0 1 1 (windows of an image), and apart is
    0 1 0 1 (`torch.cat` of two batches).
    """

    each: int = 1
    apart: bool = False

    def per_sample(self, values: Shaped[Tensor, "R *rest"]) -> Shaped[Tensor, "B *rest"]:
        """Sum what rows have over each sample's rows."""
        if self.each == 1:
            return values
        rest = values.shape[1:]
        if self.apart:
            return values.reshape(self.each, -1, *rest).sum(0)
        return values.reshape(-1, self.each, *rest).sum(1)

    def of_first(self, values: Shaped[Tensor, "R *rest"]) -> Shaped[Tensor, "R_one *rest"]:
        """The rows of the first sample."""
        return values[:: len(values) // self.each] if self.apart else values[: self.each]


ONE_ROW = SampleRows()


def rows_between(
    one: Shaped[Tensor, "R_one *rest"], two: Shaped[Tensor, "R_two *rest"], samples: int
) -> SampleRows | None:
    """How rows belong to samples, read off a pass over one sample and one over several.

    Args:
        one: what the first sample makes alone.
        two: what `samples` samples make, the same one first.
        samples: how many they are.

    Returns:
        None where samples are mixed, or their rows in another order.
    """
    if one.dim() < 2 or one.shape[1:] != two.shape[1:] or len(two) != samples * len(one):
        return None
    if len(one) == 1:
        return ONE_ROW
    if one.is_meta:
        return None
    for rows in (SampleRows(len(one)), SampleRows(len(one), apart=True)):
        if torch.allclose(rows.of_first(two), one, rtol=1e-3, atol=1e-4, equal_nan=True):
            return rows
    return None
