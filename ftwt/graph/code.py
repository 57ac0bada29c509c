"""A graph as a function."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from ftwt.graph import regions


def compile_graph(graph: fx.Graph) -> Callable[..., Any]:
    """The function that a graph's code defines; its first argument is the module."""
    code = graph.python_code("self")
    scope = {**code.globals, "torch": torch}
    source = regions.written(graph, code.src)
    exec(compile(source, "<ftwt gated network>", "exec"), scope)
    run: Callable[..., Any] = scope["forward"]
    return run
