"""What one pass through a gated network showed."""

from typing import Any, NamedTuple

import torch
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
    # Shape of one sample that the plan holds for.
    expected: tuple[int, ...]
    inputs: tuple[Tensor, ...]

    @property
    def masks(self) -> dict[str, Bool[Tensor, "B C"]]:
        """The mask of each site.

        Raises:
            FtwtError: a gate answered NaN, which would turn its filters off and pass as savings.
        """
        self._check()
        if (
            self.sites
            and torch.stack([one.weight.sum() for one in self.sites.values()]).isnan().any()
        ):
            bad = next(name for name, one in self.sites.items() if one.weight.isnan().any())
            raise FtwtError(
                f"trace: the gate of {bad!r} answers NaN; its weights or its input are not finite, "
                "train it again from the last good weights"
            )
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

    def relaxed_share(self) -> Float[Tensor, "B"]:
        """Exact MACs of each sample over the dense ones, with the estimator's gradient."""
        return self.relaxed_macs / self.plan.dense_macs

    def _check(self) -> None:
        came = tuple(self.inputs[0].shape[1:])
        if self.expected != came:
            raise FtwtError(
                f"trace: MACs are counted for samples of shape {self.expected}, but these are "
                f"{came}; attach with an example of that shape"
            )
