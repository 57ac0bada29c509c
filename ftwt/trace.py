"""What one pass through a gated network showed."""

from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.macs import Plan


class SiteTrace(NamedTuple):
    """One site in one pass over a batch.

    `weight` multiplied the site's output: the mask as floats, with the estimator's gradient.
    `logits` is None for an oracle, `target` is None where targets were not asked for.
    """

    mask: Bool[Tensor, "B C"]
    weight: Float[Tensor, "B C"]
    logits: Float[Tensor, "B C"] | None
    target: Bool[Tensor, "B C"] | None


class Trace(NamedTuple):
    """One pass over a batch: the output, each site's decisions and what they cost."""

    output: Any
    sites: dict[str, SiteTrace]
    plan: Plan
    # Shape of one sample that the plan holds for, and of the one that came.
    expected: tuple[int, ...]
    came: tuple[int, ...]

    @property
    def masks(self) -> dict[str, Bool[Tensor, "B C"]]:
        """The mask of each site."""
        self._check()
        return {name: site.mask for name, site in self.sites.items()}

    @property
    def macs(self) -> Int[Tensor, "B"]:
        """Exact MACs of each sample, gates included."""
        return self.plan.total(self.masks)

    @property
    def paper_macs(self) -> Int[Tensor, "B"]:
        """MACs of each sample in the paper's convention: sites only, without gates."""
        return self.plan.paper_total(self.masks)

    @property
    def relaxed_macs(self) -> Float[Tensor, "B"]:
        """Exact MACs of each sample with the estimator's gradient."""
        self._check()
        return self.plan.relaxed({name: site.weight for name, site in self.sites.items()})

    def _check(self) -> None:
        if self.expected != self.came:
            raise FtwtError(
                f"trace: MACs are counted for samples of shape {self.expected}, but these are "
                f"{self.came}; attach with an example of that shape"
            )
