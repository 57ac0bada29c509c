"""From a network to its graph, which follows `train()` and `eval()` although traced in eval mode.

Tracing runs each `forward` once, so an `if self.training` is decided once. Three things keep what
it decides: modules whose whole point is the mode (batch norms, stochastic depth, a library's own
drop path) are not traced into; functions that take `training=` read the mode at run time; what is
left is listed, for `Gated.explain()` to say.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from ftwt.graph import operations
from ftwt.graph.channels import Select, Spread


@dataclass(frozen=True)
class Graph:
    """A network's graph, and the modules in it that stay in eval mode for good."""

    graph: fx.Graph
    # Names of modules that read `self.training` in a way that the graph does not follow.
    frozen: tuple[str, ...]


def draw(root: nn.Module, leaves: tuple[type[nn.Module], ...]) -> Graph:
    """The graph of a network in eval mode."""
    try:
        return _drawn(root, leaves, buffers=True)
    except Exception:
        # An `if` on a buffer: what is computed from buffers is then computed once and for all.
        return _drawn(root, leaves, buffers=False)


def _drawn(root: nn.Module, leaves: tuple[type[nn.Module], ...], *, buffers: bool) -> Graph:
    with _readers_of_training() as readers:
        graph = _Tracer(leaves, frozenset(), buffers=buffers).trace(root)
    small = frozenset(module for module in readers if module is not root and _only_acts(module))
    if small:
        with _readers_of_training() as readers:
            graph = _Tracer(leaves, small, buffers=buffers).trace(root)
    following = _follow_the_mode(root, graph, readers)
    names = {module: name for name, module in root.named_modules()}
    frozen = [names[module] for module in readers if module in names and module not in following]
    return Graph(graph, tuple(name or type(root).__name__ for name in frozen))


class _Tracer(fx.Tracer):
    def __init__(
        self, leaves: tuple[type[nn.Module], ...], small: frozenset[nn.Module], *, buffers: bool
    ) -> None:
        from torchvision.ops import stochastic_depth

        super().__init__(autowrap_functions=(stochastic_depth, *_timm_functions()))
        self._leaves, self._small = leaves, small
        # What a network computes from its buffers then follows them when weights are loaded.
        self.proxy_buffer_attributes = buffers

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        from torchvision.ops import StochasticDepth

        # Batch norms of other libraries, too: they count batches and update statistics.
        kinds = (StochasticDepth, Select, Spread, *operations.BATCH_NORMS, *self._leaves)
        return (
            isinstance(m, kinds)
            or m in self._small
            or super().is_leaf_module(m, module_qualified_name)
        )


def _timm_functions() -> tuple[Callable[..., Any], ...]:
    timm = operations.timm_layers()
    return () if timm is None else (timm.drop_path,)


def _only_acts(module: nn.Module) -> bool:
    """Whether a module has nothing inside that could be a site or hold channels."""
    return next(module.parameters(), None) is None and next(module.children(), None) is None


@contextmanager
def _readers_of_training() -> Iterator[dict[nn.Module, None]]:
    """Notes each module whose `training` is read. Leaves do not run, so they do not count."""
    readers: dict[nn.Module, None] = {}

    def read(module: nn.Module) -> bool:
        readers[module] = None
        return bool(module.__dict__["training"])

    def write(module: nn.Module, value: bool) -> None:
        module.__dict__["training"] = value

    # A property of the class comes before the instance's own attribute; torch.fx patches
    # nn.Module.__call__ for the time of tracing in the same way.
    nn.Module.training = property(read, write)  # type: ignore[assignment]
    try:
        yield readers
    finally:
        del nn.Module.training


def _follow_the_mode(
    root: nn.Module, graph: fx.Graph, readers: dict[nn.Module, None]
) -> set[nn.Module]:
    """Let calls such as F.dropout(x, training=self.training) read the mode when they run."""
    following: set[nn.Module] = set()
    for node in list(graph.nodes):
        place = _training_argument(node)
        if place is None:
            continue
        owner = _reader(root, node, readers)
        if owner is None:
            continue
        name, module = owner
        following.add(module)
        with graph.inserting_before(node):
            mode = graph.get_attr(f"{name}.training" if name else "training")
        if isinstance(place, int):
            node.update_arg(place, mode)
        else:
            node.update_kwarg(place, mode)
    return following


def _training_argument(node: fx.Node) -> int | str | None:
    """Where a call is told that it is not training; True was written so, and stays."""
    if node.op != "call_function" or not callable(node.target):
        return None
    if node.kwargs.get("training") is False:
        return "training"
    try:
        names = list(inspect.signature(node.target).parameters)
    except (ValueError, TypeError):
        return None
    if "training" not in names:
        return None
    place = names.index("training")
    return place if place < len(node.args) and node.args[place] is False else None


def _reader(
    root: nn.Module, node: fx.Node, readers: dict[nn.Module, None]
) -> tuple[str, nn.Module] | None:
    """The innermost module around a node that reads its mode, and its name."""
    for name, _ in reversed(list(node.meta.get("nn_module_stack", {}).values())):
        module = root.get_submodule(name)
        if module in readers:
            return name, module
    return ("", root) if root in readers else None
