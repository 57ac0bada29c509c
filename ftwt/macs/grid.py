"""Counting many settings at once, where each keeps all filters that the one before keeps.

Masks of such settings nest, so one number for each channel holds them all: its strength, how many
of the `top` settings keep it (see `ftwt.live.Evaluator`). A layer's cost under every setting then
follows from a histogram of strengths, which takes one look at each channel instead of `top`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ftwt.macs.plan import Layer, Plan


@dataclass(frozen=True)
class GridCounts:
    """MACs of each sample under each of S settings, the sparsest first."""

    layers: Mapping[str, Int[Tensor, "B S"]]
    gates: Mapping[str, Int[Tensor, "B S"]]
    paper: Mapping[str, Int[Tensor, "B S"]]


def count_grid(plan: Plan, strengths: Mapping[str, Int[Tensor, "B _"]], top: int) -> GridCounts:
    """Count `top` settings: setting s keeps the channels with a strength of `top` - s or more.

    Equal to `plan.exact`, `plan.gates` and `plan.paper` on each setting's masks.
    """
    read = plan.reader(strengths, top)
    active = {name: _keeping(one, 1, top)[:, 0] for name, one in strengths.items()}
    layers: dict[str, Tensor] = {}
    gates: dict[str, Tensor] = {}
    paper: dict[str, Tensor] = {}
    for layer in plan.layers:
        if layer.inputs is None:
            ones = read.samples.new_ones(len(read.samples), top, dtype=torch.int64)
            layers[layer.name] = ones * layer.dense_macs
            continue
        live, per_sample = read(layer, layer.inputs), layer.rows.per_sample
        inputs = _keeping(live, 1, top)[:, 0]
        pairs = _pairs(layer, live, inputs, strengths, active, top)
        layers[layer.name] = per_sample(pairs) * layer.pair_macs
        if layer.site is None or plan.gate is None:
            continue
        macs = plan.gate.macs(inputs.flatten(), layer.site)
        gates[layer.site.name] = per_sample(macs.view(inputs.shape))
        before = active[layer.before] if layer.before is not None else inputs
        whole = before // layer.groups
        paper[layer.name] = per_sample(active[layer.site.name] * whole) * layer.pair_macs
    return GridCounts(layers, gates, paper)


def _pairs(
    layer: Layer,
    live: Tensor,
    inputs: Tensor,
    strengths: Mapping[str, Tensor],
    active: Mapping[str, Tensor],
    top: int,
) -> Tensor:
    """Active filters times live inputs under each setting, summed over groups, (B, S)."""
    if layer.site is None:
        return inputs * (layer.out_channels // layer.groups)
    if layer.groups == 1:
        return active[layer.site.name] * inputs
    own = strengths[layer.site.name]
    if layer.in_channels == layer.groups:
        # Each filter reads one channel: it runs for nothing where that one is dead.
        read = live.repeat_interleave(layer.out_channels // layer.in_channels, 1)
        return _keeping(torch.minimum(own, read), 1, top)[:, 0]
    return (_keeping(own, layer.groups, top) * _keeping(live, layer.groups, top)).sum(1)


def _keeping(strength: Tensor, groups: int, top: int) -> Tensor:
    """How many channels of each group each setting keeps, (B, G, S)."""
    batch = len(strength)
    rows = torch.arange(batch * groups, device=strength.device)[:, None] * (top + 1)
    places = strength.reshape(batch * groups, -1) + rows
    histogram = torch.bincount(places.flatten(), minlength=batch * groups * (top + 1))
    strongest_first = histogram.view(batch, groups, top + 1)[:, :, 1:].flip(2)
    return strongest_first.cumsum(2)
