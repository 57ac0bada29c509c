"""Reading the cost of every layer off a traced network."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, fx, nn
from torch.nn import functional as F

from ftwt.gates.interface import Gate
from ftwt.graph import calls, operations
from ftwt.graph.live import All, Live
from ftwt.graph.liveness import Liveness
from ftwt.graph.sites import Candidate, SiteShape, is_convolution, name_of, shape_of
from ftwt.graph.tracing import Traced, trace
from ftwt.macs.plan import Layer, Plan


def dense_macs(network: nn.Module, example: Tensor) -> int:
    """MACs of a plain network for one sample of an example."""
    return sum(trace(network, example, ()).macs.values())


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
        in_channels, out_channels = given[1], made[1]
        live: Live = liveness.channels(source, 1)
        groups = _groups(node, module)
    elif operations.is_call(node, module, (nn.Linear,), {F.linear}):
        in_channels, out_channels, live = given[-1], made[-1], liveness.channels(source, -1)
        groups = 1
    else:
        # Anything else that multiplies (attention, transposed convolutions): always dense.
        return Layer(name, kind, dense, None, 1, 1, 1, dense, site, None)
    if module is not None and module._forward_pre_hooks:
        # A hook may change what the layer reads.
        live = All(in_channels)
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
