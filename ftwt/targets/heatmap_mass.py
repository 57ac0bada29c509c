"""The paper's target: the filters that hold a given share of a layer's heatmap mass."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ftwt.errors import check_choice, check_whole, check_within
from ftwt.targets.interface import Ranking, Score, check_score, keep_first, rank

# Cumulative sums of float32 scores miss a boundary that they should meet by a few float32 steps
# (.3 + .3 + .2 + .1 against .9). The slack is relative to the whole mass, so it does not depend
# on a layer's width.
_SLACK = 1e-6


@dataclass(frozen=True)
class HeatmapMass:
    """Keep the strongest filters, up to a share `mass` of the summed scores.

    Scores fall in order s_1 >= s_2 >= ...; c_i = (s_1 + ... + s_i) / sum(s). With
    `boundary="below"`, as in FTWT (arXiv 2110.08232, section 3), filter i is kept when
    c_i <= mass; with "reach" the fewest filters with c_k >= mass are kept, one more. `mass=1`
    keeps every filter that fires anywhere. At least `min_channels` filters are always kept,
    so one dominant filter or an all-zero layer never empties a mask.

    Example:
        >>> features = torch.tensor([.3, .3, .2, .1, .1]).view(1, 5, 1, 1)
        >>> HeatmapMass(0.95)(features).sum().item()
        4
        >>> HeatmapMass(0.95, boundary="reach")(features).sum().item()
        5
    """

    mass: float
    boundary: Literal["below", "reach"] = "below"
    min_channels: int = 1
    score: Score = "max"

    amount_name: ClassVar[str] = "mass"

    def __post_init__(self) -> None:
        mend = "give the share of heatmap mass to keep, for example 0.9"
        check_within("HeatmapMass", "mass", self.mass, "(0, 1]", mend)
        check_choice("HeatmapMass", "boundary", self.boundary, ("below", "reach"))
        # A site cannot run without a filter.
        check_whole("HeatmapMass", "min_channels", self.min_channels)
        check_score("HeatmapMass", self.score)

    @property
    def amount(self) -> float:
        """See `Adjustable`."""
        return self.mass

    def with_amount(self, amount: float) -> "HeatmapMass":
        """The same rule with another mass."""
        return replace(self, mass=amount)

    def keep(self, features: Float[Tensor, "B C *space"]) -> Bool[Tensor, "B C"]:
        """Return the mask of the filters to keep."""
        ranking = rank(features, self.score)
        return keep_first(ranking.order, self.counts(ranking))

    __call__ = keep

    def counts(self, ranking: Ranking) -> Int[Tensor, "B"]:
        """Return how many filters each sample keeps."""
        scores, cumulative = ranking.scores, ranking.cumulative
        total = cumulative[:, -1:]
        if self.boundary == "below":
            inside = cumulative <= (self.mass + _SLACK) * total
        else:
            # Filter i is needed while the filters before it do not reach the mass.
            inside = cumulative - scores < (self.mass - _SLACK) * total
        kept = (inside & (scores > 0)).sum(1)
        return kept.clamp(min=min(self.min_channels, scores.shape[1]))
