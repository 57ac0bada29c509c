"""At depthwise sites nothing is left to decide: what comes in goes through."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gates.interface import Gate, SharesModule, is_oracle
from ftwt.graph.sites import SiteShape


@dataclass(frozen=True)
class Follow:
    """Depthwise sites run what their input has live; at other sites `gate` decides.

    A depthwise filter reads one channel. Where that is dead, the filter's answer does not depend on
    the image; where it is live, the gate before has decided for it. So such a site has no gate of
    its own: no parameters, no MACs, no threshold.

    Raises:
        FtwtError: where built: a site that is not depthwise, without a `gate` for it.

    Example:
        >>> from ftwt.gates import PooledLinear
        >>> Follow(PooledLinear()).chosen(SiteShape("one", 8, 8, 4608, depthwise=True))
        Follow(gate=None)
    """

    gate: Gate | None = None

    def __post_init__(self) -> None:
        gate = self.gate
        if gate is not None and (
            isinstance(gate, type)
            or not isinstance(gate, Gate)
            or is_oracle(gate)
            or isinstance(gate, SharesModule)
        ):
            raise FtwtError(
                f"Follow: gate={gate!r} is no gate that predicts; give one, for example "
                "Follow(gates.PooledLinear())"
            )

    def chosen(self, site: SiteShape) -> Gate:
        """The gate that `site` gets."""
        if site.depthwise:
            return Follow()
        if self.gate is None:
            raise FtwtError(
                f"Follow: {site.name!r} is not depthwise, so its filters have to be decided; give "
                "a gate for such sites, for example Follow(gates.PooledLinear())"
            )
        return self.gate

    def build(self, site: SiteShape) -> nn.Module:
        """Return the chosen gate's module."""
        chosen = self.chosen(site)
        return _Follow(site.name) if isinstance(chosen, Follow) else chosen.build(site)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """MACs of the chosen gate: none at a depthwise site."""
        chosen = self.chosen(site)
        return torch.zeros_like(live) if isinstance(chosen, Follow) else chosen.macs(live, site)


class _Follow(nn.Module):
    """Says that the site's mask is its input's; see `follows_input`."""

    def __init__(self, site: str) -> None:
        super().__init__()
        self.site, self.follows = site, True

    def forward(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_out"]:
        raise FtwtError(
            f"Follow: {self.site!r} takes over masks and tells none from features; ask the gated "
            "network for its masks, model.trace(images).masks"
        )
