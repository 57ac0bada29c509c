"""Gates in a traced graph."""

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from ftwt.graph import calls, operations, regions
from ftwt.graph.sites import Candidate
from ftwt.graph.tracing import Traced

# A ReLU that a network calls as a function. An overload, which the code of a graph can name.
RELU = torch.ops.aten.relu.default


def insert_gates(traced: Traced, sites: list[Candidate]) -> fx.Graph:
    """A copy of the graph in which each site's output passes through its gate."""
    graph = fx.Graph()
    new_nodes: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(traced.graph, new_nodes)
    graph.output(output)
    first = next(iter(graph.nodes))
    with graph.inserting_before(first):
        run = graph.placeholder("ftwt_pass")
    for site in sites:
        # What the convolution reads now: masked already, if it comes from an earlier site.
        source = calls.source_of(new_nodes[site.convolution])
        features = new_nodes[site.output]
        with graph.inserting_after(features):
            masked = graph.call_module(
                f"gates.{site.key}", (source, features, run), type_expr=torch.Tensor
            )
        # A gate learns also where the network around it does not.
        regions.note(masked, regions.with_gradient(regions.region_of(site.output)))
        for user in [user for user in features.users if user is not masked]:
            user.replace_input_with(features, masked)
        _give_relu(graph, masked, site.output, traced)
    graph.lint()
    return graph


def _give_relu(graph: fx.Graph, masked: fx.Node, output: fx.Node, traced: Traced) -> None:
    """Leave a ReLU to the gate that masks it, which can run both as one operation."""
    functions = {F.relu, torch.relu}
    is_relu = operations.is_call(output, traced.module(output), (nn.ReLU,), functions)
    features = masked.args[1]
    assert isinstance(features, fx.Node)
    before = calls.source_of(features)
    if not is_relu or before is None or _is_written(output, traced):
        return
    relu: Any = RELU
    if features.op == "call_module":
        with graph.inserting_before(masked):
            relu = graph.get_attr(str(features.target))
    masked.args = (masked.args[0], before, masked.args[2], relu)
    graph.erase_node(features)


def _is_written(node: fx.Node, traced: Traced) -> bool:
    """Whether a later operation works in place on a node's tensor, or on a view of it."""
    written = {name for names in traced.changed.values() for name in names}
    same = [node]
    for one in same:
        moved = operations.Kind.MOVE
        same += [
            user for user in one.users if operations.kind_of(user, traced.module(user)) is moved
        ]
    return any(one.name in written for one in same)
