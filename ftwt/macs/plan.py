"""What a gated network costs, as a function of its masks."""

from collections.abc import Mapping
from dataclasses import dataclass

import einops
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ftwt.gates.interface import Gate
from ftwt.graph.live import Evaluator, Live, Masks
from ftwt.graph.rows import ONE_ROW, SampleRows
from ftwt.graph.sites import SiteShape


@dataclass(frozen=True)
class Layer:
    """The cost of one operation that computes.

    A pair is one input channel read by one filter: MACs = active filters x live inputs x pair_macs
    in each group, summed over a sample's rows. `inputs` is None for what is always dense.
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
    # Of masks and live inputs: which sample they are of.
    rows: SampleRows = ONE_ROW
    # Whether it costs as much for any batch, as products of weights do.
    shared: bool = False


@dataclass(frozen=True)
class Plan:
    """What a gated network costs, as a function of its masks."""

    layers: tuple[Layer, ...]
    # None for a plain network.
    gate: Gate | None = None

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
        if layer.site is None or self.gate is None:
            return 0
        once = self.gate.macs(torch.tensor([layer.site.in_channels]), layer.site)
        return int(once) * layer.rows.each

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
        read = self.reader(masks)
        counts: dict[str, Tensor] = {}
        for layer in self.layers:
            if layer.site is None or layer.inputs is None:
                continue
            active = masks[layer.site.name].sum(1)
            before = masks[layer.before] if layer.before is not None else read(layer, layer.inputs)
            pairs = layer.rows.per_sample(active * (before.sum(1) // layer.groups))
            counts[layer.name] = pairs * layer.pair_macs
        return counts

    def paper_total(self, masks: Masks) -> Shaped[Tensor, "B"]:
        """MACs of each sample in the paper's convention."""
        return torch.stack(list(self.paper(masks).values())).sum(0)

    def relaxed(self, weights: Masks) -> Float[Tensor, "B"]:
        """Exact MACs, gates included, as a differentiable function of weights in [0, 1].

        Equal to `total` where all weights are 0 or 1.
        """
        return self.total({name: weight.double() for name, weight in weights.items()})

    def reader(self, masks: Masks, top: int = 1) -> "Reader":
        """What layers read, for these masks; `top` as `Evaluator` has it."""
        rows = {layer.site.name: layer.rows for layer in self.layers if layer.site is not None}
        groups: dict[SampleRows, dict[str, Tensor]] = {}
        for site, mask in masks.items():
            groups.setdefault(rows.get(site, ONE_ROW), {})[site] = mask
        first, group = next(iter(groups.items()))
        samples = next(iter(group.values()))
        samples = samples[: len(samples) // first.each]
        groups.setdefault(ONE_ROW, {})
        evaluators = {
            rows: Evaluator(group, next(iter(group.values()), samples), top)
            for rows, group in groups.items()
        }
        return Reader(samples, evaluators)

    def _by_layer(self, masks: Masks) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        read = self.reader(masks)
        layers: dict[str, Tensor] = {}
        gates: dict[str, Tensor] = {}
        for layer in self.layers:
            if layer.inputs is None:
                # Not a layer of channels: its cost is the same for each sample.
                ones = read.samples.new_ones(len(read.samples), dtype=_counting(read.samples))
                layers[layer.name] = ones * layer.dense_macs
                continue
            inputs = read(layer, layer.inputs)
            pairs = _pairs(layer, inputs, masks)
            layers[layer.name] = layer.rows.per_sample(pairs) * layer.pair_macs
            if self.gate is not None and layer.site is not None:
                macs = self.gate.macs(inputs.sum(1), layer.site)
                gates[layer.site.name] = layer.rows.per_sample(macs)
        return layers, gates


@dataclass(frozen=True)
class Reader:
    """Live channels by layer, for one batch of masks."""

    # As many as the batch has; what it holds does not matter.
    samples: Shaped[Tensor, "B _"]
    evaluators: Mapping[SampleRows, Evaluator]

    def __call__(self, layer: Layer, live: Live) -> Shaped[Tensor, "R C"]:
        """The channels of an expression, for each row of a layer."""
        return self.evaluators[layer.rows](live)


def _pairs(layer: Layer, live: Tensor, masks: Masks) -> Tensor:
    """Active filters times live inputs, summed over groups, (R,)."""
    inputs = _by_group(live.to(_counting(live)), layer.groups)
    if layer.site is None:
        return inputs.sum(1) * (layer.out_channels // layer.groups)
    mask = masks[layer.site.name]
    active = _by_group(mask.to(_counting(mask)), layer.groups)
    return (inputs * active).sum(1)


def _by_group(channels: Tensor, groups: int) -> Tensor:
    counts: Tensor = einops.reduce(channels, "b (g c) -> b g", "sum", g=groups)
    return counts


def _counting(like: Tensor) -> torch.dtype:
    return torch.int64 if like.dtype == torch.bool else torch.float64
