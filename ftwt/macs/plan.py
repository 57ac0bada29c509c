"""What a gated network costs, as a function of its masks."""

from dataclasses import dataclass

import einops
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ftwt.gates.interface import Gate
from ftwt.graph.live import Evaluator, Live, Masks
from ftwt.graph.sites import SiteShape


@dataclass(frozen=True)
class Layer:
    """The cost of one operation that computes.

    A pair is one input channel read by one filter: MACs = active filters x live inputs x pair_macs
    in each group.
    """

    name: str
    kind: str
    dense_macs: int
    inputs: Live | None
    in_channels: int
    out_channels: int
    groups: int
    pair_macs: int
    site: SiteShape | None
    # The site before, as the paper's convention sees it; None reads the live inputs.
    before: str | None


@dataclass(frozen=True)
class Plan:
    """What a gated network costs, as a function of its masks."""

    layers: tuple[Layer, ...]
    gate: Gate

    @property
    def dense_macs(self) -> int:
        """MACs of the plain network for one sample."""
        return sum(layer.dense_macs for layer in self.layers)

    @property
    def gate_macs(self) -> int:
        """MACs of all gates for one sample with every channel live."""
        return sum(self.gate_cost(layer) for layer in self.layers)

    def gate_cost(self, layer: Layer) -> int:
        """MACs of a layer's gate for one sample with every channel live."""
        if layer.site is None:
            return 0
        return int(self.gate.macs(torch.tensor([layer.site.in_channels]), layer.site))

    def exact(self, masks: Masks) -> dict[str, Shaped[Tensor, "B"]]:
        """Exact MACs of each layer for each sample, without gates."""
        return self._by_layer(masks)[0]

    def gates(self, masks: Masks) -> dict[str, Shaped[Tensor, "B"]]:
        """MACs of each site's gate for each sample."""
        return self._by_layer(masks)[1]

    def total(self, masks: Masks) -> Shaped[Tensor, "B"]:
        """Exact MACs of each sample, gates included."""
        layers, gates = self._by_layer(masks)
        return torch.stack([*layers.values(), *gates.values()]).sum(0)

    def paper(self, masks: Masks) -> dict[str, Shaped[Tensor, "B"]]:
        """MACs of each site in the paper's convention for each sample."""
        like = next(iter(masks.values()))
        live = Evaluator(masks, like)
        counts: dict[str, Tensor] = {}
        for layer in self.layers:
            if layer.site is None or layer.inputs is None:
                continue
            active = masks[layer.site.name].sum(1)
            before = masks[layer.before] if layer.before is not None else live(layer.inputs)
            counts[layer.name] = active * (before.sum(1) // layer.groups) * layer.pair_macs
        return counts

    def paper_total(self, masks: Masks) -> Shaped[Tensor, "B"]:
        """MACs of each sample in the paper's convention."""
        return torch.stack(list(self.paper(masks).values())).sum(0)

    def relaxed(self, weights: Masks) -> Float[Tensor, "B"]:
        """Exact MACs, gates included, as a differentiable function of weights in [0, 1].

        Equal to `total` where all weights are 0 or 1.
        """
        return self.total({name: weight.double() for name, weight in weights.items()})

    def _by_layer(self, masks: Masks) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        like = next(iter(masks.values()))
        live = Evaluator(masks, like)
        layers: dict[str, Tensor] = {}
        gates: dict[str, Tensor] = {}
        for layer in self.layers:
            layers[layer.name] = _pairs(layer, live, masks) * layer.pair_macs
            if layer.site is not None and layer.inputs is not None:
                gates[layer.site.name] = self.gate.macs(live(layer.inputs).sum(1), layer.site)
        return layers, gates


def _pairs(layer: Layer, live: Evaluator, masks: Masks) -> Tensor:
    """Active filters times live inputs, summed over groups, (B,)."""
    like = next(iter(masks.values()))
    if layer.inputs is None:
        # Not a layer of channels: its cost is the same for each sample, in one pair.
        return like.new_ones(like.shape[0], dtype=_counting(like))
    inputs = _by_group(live(layer.inputs).to(_counting(like)), layer.groups)
    if layer.site is None:
        return inputs.sum(1) * (layer.out_channels // layer.groups)
    active = _by_group(masks[layer.site.name].to(_counting(like)), layer.groups)
    return (inputs * active).sum(1)


def _by_group(channels: Tensor, groups: int) -> Tensor:
    counts: Tensor = einops.reduce(channels, "b (g c) -> b g", "sum", g=groups)
    return counts


def _counting(like: Tensor) -> torch.dtype:
    return torch.int64 if like.dtype == torch.bool else torch.float64
