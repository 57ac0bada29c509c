"""Uniform target: the same share of filters in each layer and sample."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ftwt.errors import check_within
from ftwt.targets.interface import Ranking, Score, check_score, keep_first, rank


@dataclass(frozen=True)
class TopK:
    """Keep the max(1, round(fraction * C)) strongest filters of each sample.

    FTWT's "static signature" (arXiv 2110.08232, section 3.2): how many filters run does not
    depend on the input, which ones does.

    Example:
        >>> TopK(0.5)(torch.tensor([.1, .4, .3, .2]).view(1, 4, 1, 1)).tolist()
        [[False, True, True, False]]
    """

    fraction: float
    score: Score = "max"

    amount_name: ClassVar[str] = "fraction"

    def __post_init__(self) -> None:
        mend = "give the share of filters to keep, for example 0.5"
        check_within("TopK", "fraction", self.fraction, "(0, 1]", mend)
        check_score("TopK", self.score)

    @property
    def amount(self) -> float:
        """See `Adjustable`."""
        return self.fraction

    def with_amount(self, amount: float) -> "TopK":
        """The same rule with another fraction."""
        return replace(self, fraction=amount)

    def count(self, channels: int) -> int:
        """How many of `channels` filters are kept."""
        return max(1, round(self.fraction * channels))

    def keep(self, features: Float[Tensor, "B C *space"]) -> Bool[Tensor, "B C"]:
        """Return the mask of the filters to keep."""
        ranking = rank(features, self.score)
        return keep_first(ranking.order, self.counts(ranking))

    __call__ = keep

    def counts(self, ranking: Ranking) -> Int[Tensor, "B"]:
        """Return the same number for each sample."""
        batch, channels = ranking.order.shape
        return torch.full((batch,), self.count(channels), device=ranking.order.device)
