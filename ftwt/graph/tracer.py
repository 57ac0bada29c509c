"""From a network to its graph, which follows `train()` and `eval()` although traced in eval mode.

Tracing runs each `forward` once, on values that carry what the example makes of them, so an
`if self.training` is decided once. Three things keep what it decides: modules whose whole point is
the mode (batch norms, stochastic depth, a library's own drop path) are not traced into; functions
that take `training=` read the mode at run time; what is left is listed, for `Gated.explain()` to
say.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftwt.graph import kept, operations, ranges, regions
from ftwt.graph.arguments import Arguments
from ftwt.graph.channels import Select, Spread
from ftwt.graph.in_place import IN_PLACE, separate
from ftwt.graph.mode import follow_the_mode, noting_readers
from ftwt.graph.own import line_of_user
from ftwt.graph.proxies import Valued, holds_tensor, settled

# What tells of a tensor without a look at its elements.
_OF_SIZES = {
    getattr, len, torch.numel, torch.is_floating_point, torch.is_complex, torch.is_tensor, settled,
    "size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "element_size",
    "is_floating_point", "is_complex", "get_device", "storage_offset", "type",
}  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """A network's graph, and the modules in it that stay in eval mode for good."""

    graph: fx.Graph
    # Names of modules that read `self.training` in a way that the graph does not follow.
    frozen: tuple[str, ...]
    # Where a forward assigned an attribute, by its name.
    assigned: Mapping[str, str]
    # Attributes of the network that hold constants of its forward.
    constants: frozenset[str]


class DoesNotRun(Exception):
    """The network does not run on the example; the cause is in `__cause__`."""


def draw(
    root: nn.Module,
    leaves: tuple[type[nn.Module], ...],
    arguments: Arguments,
    inputs: Mapping[str, Tensor],
) -> Graph:
    """The graph of a network in eval mode; `inputs` are a batch of examples.

    Raises:
        DoesNotRun: the network does not take these.
    """
    with ExitStack() as lent:
        while True:
            try:
                return _drawn(root, leaves, arguments, inputs)
            except TypeError as error:
                # `range(size)`, maybe: once more, in a file where it takes that.
                names = ranges.names_at(error)
                if names is None:
                    raise
                lent.enter_context(ranges.lent(names))


def _drawn(
    root: nn.Module,
    leaves: tuple[type[nn.Module], ...],
    arguments: Arguments,
    inputs: Mapping[str, Tensor],
) -> Graph:
    tracer = Tracer(leaves, frozenset(), arguments, inputs)
    graph, readers = tracer.drawn(root), tracer.readers
    small = frozenset(module for module in readers if module is not root and _is_small(module))
    if small:
        tracer = Tracer(leaves, small, arguments, inputs)
        graph, readers = tracer.drawn(root), tracer.readers
    following = follow_the_mode(root, graph, readers)
    names = {module: name for name, module in root.named_modules()}
    frozen = [names[module] for module in readers if module in names and module not in following]
    names_of = tuple(name or type(root).__name__ for name in frozen)
    return Graph(graph, names_of, tracer.assigned, frozenset(tracer.tensor_attrs.values()))


class Tracer(fx.Tracer):
    """Runs what it traces on an example at the same time."""

    # What a network computes from its buffers then follows them when weights are loaded.
    proxy_buffer_attributes = True

    def __init__(
        self,
        leaves: tuple[type[nn.Module], ...],
        small: frozenset[nn.Module],
        arguments: Arguments,
        inputs: Mapping[str, Tensor],
    ) -> None:
        super().__init__(autowrap_functions=_foreign_functions())
        self._leaves, self._small = leaves, small
        self._arguments, self._inputs = arguments, inputs
        self._regions = regions.Regions()
        self._values: dict[fx.Node, Any] = {}
        # Nodes that depend on an input.
        self._fed: set[fx.Node] = set()
        # Numbers among them that were read off elements, not off sizes.
        self._read: set[fx.Node] = set()
        self.tensor_attrs = {}
        # Modules whose mode was read.
        self.readers: dict[nn.Module, None] = {}
        # Where forward assigned an attribute, by its name.
        self.assigned: dict[str, str] = {}
        # Whether the example runs, which is not to be traced.
        self._running = False

    def drawn(self, root: nn.Module) -> fx.Graph:
        """The graph of a network, whose modules keep nothing of what tracing does."""
        before = kept.taken(root)
        noting = noting_readers(self.readers, lambda: self._running)
        watched = (self._regions.watched(), self._assigned(), noting)
        with ExitStack() as stack, torch.enable_grad():
            for one in watched:
                stack.enter_context(one)
            try:
                graph = self.trace(root)
                separate(graph, self._values)
                return graph
            finally:
                self._running = True
                kept.put_back(root, before, but=self.tensor_attrs.values())

    def value(self, proxy: fx.Proxy) -> Any:
        """What the example made of a traced value."""
        return self._values[proxy.node]

    def called(self, function: Callable[..., Any], *args: Any) -> Any:
        """A node that calls a function."""
        return self.create_proxy("call_function", function, args, {})

    def settle(self, function: Callable[..., Any], proxy: fx.Proxy) -> Any:
        """Take a number or a truth from the example, for good; the graph checks it later.

        Raises:
            TraceError: it comes from the elements of an input.
        """
        node = proxy.node
        elements = isinstance(self._values[node], Tensor) and function is not len
        if node in self._read or (elements and node in self._fed):
            raise fx.proxy.TraceError(
                "symbolically traced variables cannot be used as inputs to control flow"
            )
        made = self.called(function, proxy)
        value = self.value(made)
        self.called(settled, made, value, line_of_user())
        return value

    def proxy(self, node: fx.Node) -> Valued:
        """A traced value."""
        return Valued(node, self)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Make a node, and run it on the example."""
        node = super().create_node(kind, target, *args, **kwargs)
        regions.note(node, self._regions.open)
        if kind != "output":
            # Its value comes at once, for what Python decides by it.
            if kind == "placeholder" or not self._fed.isdisjoint(node.all_input_nodes):
                self._fed.add(node)
            self._values[node] = self._run(node)
            if self._reads_elements(node):
                self._read.add(node)
        return node

    def create_arg(self, a: Any) -> Any:
        """Keep a dictionary of another type what it is; torch.fx would make a plain one of it."""
        kind = type(a)
        if isinstance(a, dict) and kind is not dict:
            # Such as Hugging Face's outputs, which are both.
            if is_dataclass(a):
                named = {one.name: self.create_arg(getattr(a, one.name)) for one in fields(a)}
                return self.create_node("call_function", kind, (), named)
            if _is_made_of_pairs(a):
                pairs = self.create_arg(list(a.items()))
                return self.create_node("call_function", kind, (pairs,), {})
        return super().create_arg(a)

    def _reads_elements(self, node: fx.Node) -> bool:
        """Whether a node's value is no tensor, and depends on the elements of one."""
        if holds_tensor(self._values[node]):
            return False
        tensors = [one for one in node.all_input_nodes if isinstance(self._values[one], Tensor)]
        sizes = node.target in _OF_SIZES or not self._fed.intersection(tensors)
        return not sizes or not self._read.isdisjoint(node.all_input_nodes)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Trace a module's call, unless the example runs."""
        # A module that forward makes is no part of the network; what it does is.
        if self._running or m not in (self.submodule_paths or {}):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """An attribute of a module; a traced value for parameters and buffers."""
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Trace the arguments that the example has; the others are what they are."""
        made = {
            name: self.create_proxy("placeholder", name, (), {}) for name in self._arguments.inputs
        }
        args, kwargs = self._arguments.call(made)

        def run(root: nn.Module) -> Any:
            return root_fn(root, *args, **kwargs)

        return run, [self.root]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is not traced into."""
        vision = operations.torchvision_operations()
        drops = () if vision is None else (vision.StochasticDepth,)
        # Batch norms of other libraries, too: they count batches and update statistics. A scripted
        # module has no forward in Python to trace.
        scripted = torch.jit.ScriptModule
        kinds = (*drops, Select, Spread, scripted, *operations.BATCH_NORMS, *self._leaves)
        return (
            isinstance(m, kinds)
            or m in self._small
            or super().is_leaf_module(m, module_qualified_name)
        )

    def _run(self, node: fx.Node) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._values.__getitem__)
        running, self._running = self._running, True
        try:
            with torch.no_grad():
                if node.op == "placeholder":
                    return self._inputs[str(node.target)]
                if node.op == "get_attr":
                    return attrgetter(str(node.target))(self.root)
                if node.op == "call_module":
                    return self.root.get_submodule(str(node.target))(*args, **kwargs)
                if node.op == "call_method":
                    return getattr(args[0], str(node.target))(*args[1:], **kwargs)
                assert callable(node.target)
                return node.target(*args, **kwargs)
        except Exception as error:
            raise DoesNotRun from error
        finally:
            self._running = running

    @contextmanager
    def _assigned(self) -> Iterator[None]:
        """Let a forward assign traced values to buffers."""
        assign = nn.Module.__setattr__

        def assigning(module: nn.Module, name: str, value: Any) -> None:
            self.assigned[name] = line_of_user()
            held = module.__dict__.get("_buffers", {}).get(name)
            if not isinstance(value, Valued) or held is None:
                assign(module, name, value)
            elif not self._is_in_place(value, held):
                getattr(module, name).copy_(value)

        nn.Module.__setattr__ = assigning  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            nn.Module.__setattr__ = assign  # type: ignore[method-assign]

    def _is_in_place(self, value: Valued, held: Tensor) -> bool:
        """Whether a value is a buffer that was changed in place, as `self.calls += 1` does."""
        return value.node.target in IN_PLACE and self.value(value) is held


def _is_made_of_pairs(dictionary: dict[Any, Any]) -> bool:
    """Whether its type makes one of the same keys."""
    try:
        return list(type(dictionary)(list(dictionary.items()))) == list(dictionary)
    except Exception:
        # Whatever its constructor does with something else.
        return False


def _foreign_functions() -> tuple[Callable[..., Any], ...]:
    """Of other libraries, what draws random numbers: one node each."""
    vision, timm = operations.torchvision_operations(), operations.timm_layers()
    found = () if vision is None else (vision.stochastic_depth,)
    return found if timm is None else (*found, timm.drop_path)


def _is_small(module: nn.Module) -> bool:
    """Whether a module has nothing inside that could be a site."""
    return all(one.dim() != 4 for one in module.parameters())
