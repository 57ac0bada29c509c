"""Counting multiply-accumulates (MACs), per sample, in two conventions.

`exact` counts what really has to run: for each convolution and linear layer, active outputs times
live inputs, group by group; gates included; layers without a gate on both sides of a comparison.

`paper` counts as the code published with FTWT does (arXiv 2110.08232): inputs are the mask of the
site before, divided by the groups and rounded down, so that a depthwise convolution with one dead
channel counts nothing; gates and layers without a gate are left out of the dynamic sum.

Bias, batch norm, activations and pooling count in neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import einops
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ftwt import calls, operations
from ftwt.gates.interface import Gate, SiteShape
from ftwt.liveness import Evaluator, Live, Liveness, Masks
from ftwt.sites import Candidate, is_convolution, name_of, shape_of
from ftwt.tracing import Traced, trace

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from ftwt.model import Gated
    from ftwt.trace import Trace


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


def dense_macs(network: nn.Module, example: Tensor) -> int:
    """MACs of a plain network for one sample of an example."""
    return sum(trace(network, example, ()).macs.values())


class Row(NamedTuple):
    """One layer of a table: MACs for one sample, mean over the samples of a trace."""

    name: str
    kind: str
    in_channels: int
    out_channels: int
    dense_macs: int
    gate_macs: int
    macs: float | None
    paper_macs: float | None
    active: float | None


@dataclass(frozen=True)
class Table:
    """Cost by layer. Without a trace only the dense network's and the gates' are known."""

    rows: tuple[Row, ...]

    def rich(self, title: str | None = None) -> "RichTable":
        """The table for rich to print."""
        from rich.table import Table as RichTable

        traced = any(row.macs is not None for row in self.rows)
        heads = ["layer", "kind", "in", "out", "dense MACs", "gate MACs"]
        heads += ["exact MACs", "paper MACs", "active"] if traced else []
        table = RichTable(title=title, show_footer=True)
        totals = ["all", "", "", "", f"{sum(row.dense_macs for row in self.rows):,}"]
        totals += [f"{sum(row.gate_macs for row in self.rows):,}"]
        if traced:
            totals += [f"{sum(row.macs or 0 for row in self.rows):,.0f}"]
            totals += [f"{sum(row.paper_macs or 0 for row in self.rows):,.0f}", ""]
        for head, total in zip(heads, totals, strict=True):
            left = head in ("layer", "kind")
            table.add_column(head, total, justify="left" if left else "right")
        for row in self.rows:
            cells = [row.name, row.kind, str(row.in_channels), str(row.out_channels)]
            cells += [f"{row.dense_macs:,}", f"{row.gate_macs:,}" if row.gate_macs else ""]
            if traced:
                cells += [f"{row.macs:,.0f}" if row.macs is not None else ""]
                cells += [f"{row.paper_macs:,.0f}" if row.paper_macs is not None else ""]
                cells += [f"{100 * row.active:.1f} %" if row.active is not None else ""]
            table.add_row(*cells)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=140)
        with console.capture() as capture:
            console.print(self.rich())
        return capture.get()


def table(model: "Gated", seen: "Trace | None" = None) -> Table:
    """Cost of a gated network by layer; with a trace also what its samples cost on average.

    Exact MACs of a layer include its gate.
    """
    costs = model.anatomy.plan
    exact: dict[str, Tensor] = {}
    paper: dict[str, Tensor] = {}
    live_gates: dict[str, Tensor] = {}
    if seen is not None:
        exact, live_gates = costs.exact(seen.masks), costs.gates(seen.masks)
        paper = costs.paper(seen.masks)
    rows = []
    for layer in costs.layers:
        gate = costs.gate_cost(layer)
        macs = exact.get(layer.name)
        if macs is not None and layer.name in live_gates:
            macs = macs + live_gates[layer.name]
        mask = seen.sites[layer.name].mask if seen and layer.name in seen.sites else None
        rows.append(
            Row(
                name=layer.name,
                kind=layer.kind,
                in_channels=layer.in_channels,
                out_channels=layer.out_channels,
                dense_macs=layer.dense_macs,
                gate_macs=gate,
                macs=_mean(macs),
                paper_macs=_mean(paper.get(layer.name)),
                active=_mean(mask),
            )
        )
    return Table(tuple(rows))


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else values.double().mean().item()


def plan(traced: Traced, sites: list[Candidate], liveness: Liveness, gate: Gate) -> Plan:
    """Work out the cost of every operation of a traced network."""
    by_node = {site.convolution.name: site for site in sites}
    by_output = {site.output.name: site for site in sites}
    layers: list[Layer] = []
    order = {node.name: place for place, node in enumerate(traced.graph.nodes)}
    for node in traced.graph.nodes:
        dense = traced.macs.get(node.name, 0)
        if not dense:
            continue
        site = by_node.get(node.name)
        name = site.name if site is not None else name_of(node, traced)
        if any(layer.name == name for layer in layers):
            name = node.name
        shape = shape_of(site, traced) if site is not None else None
        layers.append(_layer(node, name, dense, traced, liveness, shape))
        if site is not None and shape is not None:
            before = _site_before(node, by_output, order)
            # After a concatenation the paper's convention has no meaning: live inputs then.
            if before is not None and shape_of(before, traced).out_channels == shape.in_channels:
                layers[-1] = replace(layers[-1], before=before.name)
    return Plan(tuple(layers), gate)


def _layer(
    node: fx.Node, name: str, dense: int, traced: Traced, liveness: Liveness, site: SiteShape | None
) -> Layer:
    module = traced.module(node)
    source = calls.source(node)
    given = traced.shape(source) if source is not None else None
    made = traced.shape(node)
    kind = operations.describe(node, module)
    if source is None or given is None or made is None:
        return Layer(name, kind, dense, None, 1, 1, 1, dense, site, None)
    if is_convolution(node, traced):
        in_channels, out_channels, live = given[1], made[1], liveness.channels(source, 1)
        groups = _groups(node, module)
    elif operations.is_call(node, module, (nn.Linear,), {F.linear}):
        in_channels, out_channels, live = given[-1], made[-1], liveness.channels(source, -1)
        groups = 1
    else:
        # Anything else that multiplies (attention, transposed convolutions): always dense.
        return Layer(name, kind, dense, None, 1, 1, 1, dense, site, None)
    pairs = in_channels * out_channels // groups
    return Layer(
        name, kind, dense, live, in_channels, out_channels, groups, dense // pairs, site, None
    )


def _groups(node: fx.Node, module: nn.Module | None) -> int:
    if isinstance(module, nn.Conv2d):
        return module.groups
    groups = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    assert isinstance(groups, int)
    return groups


def _site_before(
    node: fx.Node, by_output: Mapping[str, Candidate], order: Mapping[str, int]
) -> Candidate | None:
    """The last site, in running order, among what the convolution reads."""
    best: fx.Node | None = None
    waiting, seen = list(node.all_input_nodes), set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if one.name in by_output:
            if best is None or order[one.name] > order[best.name]:
                best = one
            continue
        waiting.extend(one.all_input_nodes)
    return by_output[best.name] if best is not None else None
