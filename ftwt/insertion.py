"""Gates in a traced graph, and the graph as a function."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from ftwt import calls
from ftwt.sites import Candidate
from ftwt.tracing import Traced


def compile_graph(graph: fx.Graph) -> Callable[..., Any]:
    """The function that a graph's code defines; its first argument is the module."""
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, "<ftwt gated network>", "exec"), scope)
    run: Callable[..., Any] = scope["forward"]
    return run


def insert_gates(traced: Traced, sites: list[Candidate]) -> fx.Graph:
    """A copy of the graph in which each site's output passes through its gate."""
    graph = fx.Graph()
    new_nodes: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(traced.graph, new_nodes)
    graph.output(output)
    first = next(iter(graph.nodes))
    with graph.inserting_before(first):
        recorder = graph.placeholder("ftwt_recorder")
    for site in sites:
        # What the convolution reads now: masked already, if it comes from an earlier site.
        source = calls.source(new_nodes[site.convolution])
        features = new_nodes[site.output]
        with graph.inserting_after(features):
            masked = graph.call_module(
                f"gates.{site.key}", (source, features, recorder), type_expr=torch.Tensor
            )
        for user in [user for user in features.users if user is not masked]:
            user.replace_input_with(features, masked)
    graph.lint()
    return graph
