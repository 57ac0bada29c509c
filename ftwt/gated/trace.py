"""What one pass through a gated network showed."""

from collections.abc import Callable, Sequence
from functools import cached_property
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


class _Noted(NamedTuple):
    output: Any
    sites: dict[str, SiteTrace]
    inputs: tuple[Tensor, ...]
    # What the network costs on inputs of their size.
    plan_for: Callable[[Sequence[Tensor]], Plan]


class Trace(_Noted):
    """One pass over a batch: the output, each site's decisions and what they cost.

    Costs are counted once, when they are asked for; a trace with other sites counts its own.
    """

    @property
    def plan(self) -> Plan:
        """What the network costs on these inputs, as a function of masks.

        Raises:
            FtwtError: the network does not take inputs of this size when it is counted.
        """
        return self.plan_for(self.inputs)

    @cached_property
    def masks(self) -> dict[str, Bool[Tensor, "B C"]]:
        """The mask of each site.

        Raises:
            FtwtError: a gate answered NaN, which would turn its filters off and pass as savings.
        """
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

    @cached_property
    def macs(self) -> Int[Tensor, "B"]:
        """Exact MACs of each sample, gates included."""
        return self.plan.total(self.masks)

    @cached_property
    def paper_macs(self) -> Int[Tensor, "B"]:
        """MACs of each sample in the paper's convention: sites only, without gates."""
        return self.plan.paper_total(self.masks)

    @property
    def relaxed_macs(self) -> Float[Tensor, "B"]:
        """Exact MACs of each sample with the estimator's gradient."""
        return self.plan.relaxed({name: site.weight for name, site in self.sites.items()})

    def relaxed_share(self) -> Float[Tensor, "B"]:
        """Exact MACs of each sample over the dense ones, with the estimator's gradient."""
        return self.relaxed_macs / self.plan.dense_macs
