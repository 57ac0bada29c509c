"""Reading the cost of every layer off a traced network."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, fx, nn
from torch.nn import functional as F

from ftwt.errors import FtwtError
from ftwt.gates.interface import Gate
from ftwt.graph import calls, operations
from ftwt.graph.live import All, Live, sites_in
from ftwt.graph.liveness import Liveness
from ftwt.graph.probing import PROBE_BATCH
from ftwt.graph.rows import ONE_ROW, SampleRows
from ftwt.graph.sites import Candidate, SiteShape, is_convolution, shape_of, site_name
from ftwt.graph.tracing import Traced, trace
from ftwt.macs.plan import Layer, Plan


def dense_macs(network: nn.Module, example: Tensor) -> int:
    """MACs of a plain network for one sample of an example."""
    return sum(trace(network, example, ()).macs.values())


def plan(traced: Traced, sites: list[Candidate], liveness: Liveness, gate: Gate | None) -> Plan:
    """Work out the cost of every operation of a traced network.

    Raises:
        FtwtError: a site whose rows are not its samples'.
    """
    by_node = {site.convolution.name: site for site in sites}
    by_output = {site.output.name: site for site in sites}
    rows = {site.name: _rows(site, traced) for site in sites}
    layers: list[Layer] = []
    order = {node.name: place for place, node in enumerate(traced.graph.nodes)}
    for node in traced.graph.nodes:
        dense = traced.macs.get(node.name, 0)
        if not dense:
            continue
        site = by_node.get(node.name)
        name = site.name if site is not None else site_name(node, traced)
        if any(layer.name == name for layer in layers):
            name = node.name
        shape = shape_of(site, traced) if site is not None else None
        layer = _layer(node, name, dense, traced, liveness, shape, rows)
        if site is not None and shape is not None:
            before = _site_before(node, by_output, order)
            # After a concatenation the paper's convention has no meaning: live inputs then.
            if (
                before is not None
                and shape_of(before, traced).out_channels == shape.in_channels
                and rows[before.name] == layer.rows
            ):
                layer = replace(layer, before=before.name)
        layers.append(layer)
    return Plan(tuple(layers), gate)


def _rows(site: Candidate, traced: Traced) -> SampleRows:
    rows = traced.probed.rows.get(site.convolution.name)
    if rows is None:
        shape = traced.shape(site.convolution)
        raise FtwtError(
            f"attach: {site.name!r} works on rows that are not the samples' (its output is "
            f"{tuple(shape or ())} for {PROBE_BATCH} samples), so that no mask could be a "
            "sample's; leave it out of where="
        )
    return rows


def _layer(
    node: fx.Node,
    name: str,
    dense: int,
    traced: Traced,
    liveness: Liveness,
    site: SiteShape | None,
    rows: Mapping[str, SampleRows],
) -> Layer:
    module = traced.module(node)
    shared = node.name in traced.probed.shared
    kind = operations.describe(node, module)
    always = Layer(name, kind, dense, None, 1, 1, 1, dense, site, None, shared=shared)
    source = calls.source_of(node)
    given = traced.shape(source) if source is not None else None
    made = traced.shape(node)
    if source is None or given is None or made is None:
        return always
    if is_convolution(node, traced):
        in_channels, out_channels = given[1], made[1]
        live: Live = liveness.channels(source, 1)
        groups = _groups(node, traced, in_channels)
    elif operations.is_call(node, module, (nn.Linear,), {F.linear}):
        in_channels, out_channels, live = given[-1], made[-1], liveness.channels(source, -1)
        groups = 1
    else:
        # Anything else that multiplies (attention, transposed convolutions): always dense.
        return always
    own = rows[site.name] if site is not None else traced.probed.rows.get(node.name)
    read = {rows[one] for one in sites_in(live)}
    if (module is not None and module._forward_pre_hooks) or not read <= {own}:
        # A hook may change what the layer reads, and rows that are arranged anew whose they are.
        live, read = All(in_channels), set()
    if site is None and not read:
        own = ONE_ROW
    pairs = in_channels * out_channels // groups
    if own is None or dense % (pairs * own.each):
        return always
    return replace(
        always,
        inputs=live,
        in_channels=in_channels,
        out_channels=out_channels,
        groups=groups,
        pair_macs=dense // (pairs * own.each),
        rows=own,
    )


def _groups(node: fx.Node, traced: Traced, in_channels: int) -> int:
    """Read off the weight, as the argument may be computed."""
    module = traced.module(node)
    if isinstance(module, nn.Conv2d):
        return module.groups
    weight = calls.argument(node, 1, "weight")
    shape = traced.shape(weight) if isinstance(weight, fx.Node) else None
    if shape is None:
        return 1
    return in_channels // shape[1]


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
