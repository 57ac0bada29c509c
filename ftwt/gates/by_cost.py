"""A gate for each site by what it costs there."""

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ftwt.errors import FtwtError, check_within
from ftwt.gates.interface import Gate, SharesModule, is_oracle
from ftwt.graph.sites import SiteShape


@dataclass(frozen=True)
class ByCost:
    """`gate` where its MACs are at most `share` of the site's convolution, else `otherwise`.

    A full linear gate costs C_in * C_out MACs whatever the size of the map. Beside a depthwise
    convolution, or on small maps, that can be more than the gate saves; a `Bottleneck` there costs
    less. Compared are dense MACs for one sample.

    Example:
        >>> from ftwt.gates import Bottleneck, PooledLinear
        >>> gate = ByCost(PooledLinear(), Bottleneck(8), share=0.1)
        >>> gate.chosen(SiteShape("depthwise", 512, 512, macs=512 * 9 * 4 * 4))
        Bottleneck(rank=8, pool='max', normalize='softmax', open=None)
    """

    gate: Gate
    otherwise: Gate
    share: float = 0.1

    def __post_init__(self) -> None:
        mend = "give the share of a convolution's MACs that a gate may cost, for example 0.1"
        check_within("ByCost", "share", self.share, "(0, inf)", mend)
        for name, spec in (("gate", self.gate), ("otherwise", self.otherwise)):
            if isinstance(spec, type) or not isinstance(spec, Gate) or not _alone(spec):
                raise FtwtError(
                    f"ByCost: {name}={spec!r} cannot be chosen by cost; give gates that predict, "
                    "for example ByCost(gates.PooledLinear(), gates.Bottleneck(8))"
                )

    def chosen(self, site: SiteShape) -> Gate:
        """The gate that `site` gets."""
        cost = int(self.gate.macs(torch.tensor([site.in_channels]), site))
        return self.gate if cost <= self.share * site.macs else self.otherwise

    def build(self, site: SiteShape) -> nn.Module:
        """Return the chosen gate's module."""
        return self.chosen(site).build(site)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """MACs of the chosen gate."""
        return self.chosen(site).macs(live, site)


def _alone(gate: Gate) -> bool:
    """Whether a site's gate decides by what it reads there."""
    return not is_oracle(gate) and not isinstance(gate, SharesModule)
