"""The graph of a cut network while it is made."""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.graph import operations
from ftwt.graph.channels import Select, Spread
from ftwt.graph.live import Evaluator, Live
from ftwt.slicing.layers import Share
from ftwt.slicing.parts import Constant


@dataclass(frozen=True, eq=False)
class Piece:
    """A tensor of the cut network: which channels of the whole one it holds, in its own order.

    The others are zero. `node` is None where all are. `shape` is the whole tensor's, (C, *space).
    """

    node: fx.Node | None
    channels: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether all channels are there, in their places."""
        return self.node is not None and self.channels == tuple(range(self.shape[0]))


class Builder:
    """Makes nodes and modules of the cut network. Rules read `pieces` and `others`."""

    def __init__(self, model: Gated, live: Evaluator, *, traceable: bool) -> None:
        self.model = model
        # Only operations whose live channels `attach` knows, for gates to be put in again.
        self.traceable = traceable
        self.traced = model.anatomy.traced
        self.graph = fx.Graph()
        self.modules: dict[str, Any] = {}
        self.pieces: dict[fx.Node, Piece] = {}
        # Results that are no tensors with channels.
        self.others: dict[fx.Node, Any] = {}
        # What each convolution was split into.
        self.shares: dict[fx.Node, tuple[Share, ...]] = {}
        self.input: fx.Node | None = None
        self._live = live

    def placeholder(self, node: fx.Node) -> None:
        """Take an input along as it is."""
        made = self.graph.create_node("placeholder", str(node.target), node.args, name=node.name)
        shape = self.traced.shape(node)
        if shape is not None and len(shape) >= 2:
            self.input = self.input or made
            self.piece(node, made, tuple(range(shape[1])))
        else:
            self.others[node] = made

    def attribute(self, node: fx.Node) -> None:
        """Take a tensor along that the network holds; a mode is read now, for good."""
        value = operator.attrgetter(str(node.target))(self.model)
        if isinstance(value, Tensor):
            self.modules[str(node.target)] = value
            value = self.graph.get_attr(str(node.target))
        self.others[node] = value

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """The module that a node of the whole network calls, with the model's own weights."""
        return self.model.get_submodule(str(node.target)) if node.op == "call_module" else None

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Shape of one sample of a node's tensor."""
        shape = self.traced.shape(node)
        assert shape is not None
        return tuple(shape[1:])

    def live(self, node: fx.Node, dim: int = 1) -> tuple[int, ...]:
        """Channels of a node's tensor that can be non-zero."""
        return self.evaluate(self.model.anatomy.liveness.channels(node, dim))

    def evaluate(self, live: Live) -> tuple[int, ...]:
        """Indices that an expression makes live."""
        return tuple(self._live(live)[0].nonzero().flatten().tolist())

    def piece(self, node: fx.Node, made: fx.Node | None, channels: tuple[int, ...]) -> None:
        """Note what a node of the whole network became."""
        self.pieces[node] = Piece(made if channels else None, channels, self.shape(node))

    def call(self, name: str, module: nn.Module, *inputs: fx.Node) -> fx.Node:
        """Call a new module, under `name` or the next free name."""
        free, count = name, 1
        while free in self.modules:
            count += 1
            free = f"{name}_{count}"
        self.modules[free] = module
        return self.graph.call_module(free, inputs)

    def spread(self, piece: Piece, name: str) -> fx.Node:
        """The whole tensor, with zeros where the piece has nothing."""
        if piece.node is None:
            assert self.input is not None
            zeros = torch.zeros(piece.shape[0], device=self.device)
            return self.call(f"{name}_zeros", Constant(zeros, piece.shape[1:]), self.input)
        if piece.whole:
            return piece.node
        return self.among(piece, tuple(range(piece.shape[0])), name)

    def among(self, piece: Piece, channels: tuple[int, ...], name: str) -> fx.Node:
        """A piece's channels at their places among `channels`, zeros at the others."""
        assert piece.node is not None
        if channels == piece.channels:
            return piece.node
        place = {channel: i for i, channel in enumerate(piece.channels)}
        indices = [place.get(channel, -1) for channel in channels]
        return self.call(f"{name}_spread", Spread(indices, len(piece.shape) + 1), piece.node)

    def select(self, piece: Piece, wanted: tuple[int, ...], name: str) -> fx.Node:
        """Some of a piece's channels, in the order wanted; at least one."""
        assert piece.node is not None
        if wanted == piece.channels:
            return piece.node
        place = {channel: i for i, channel in enumerate(piece.channels)}
        return self.call(f"{name}_select", Select([place[one] for one in wanted]), piece.node)

    def whole(self, node: fx.Node) -> Any:
        """A node's whole result, for an operation without a rule of its own."""
        if node in self.pieces:
            return self.spread(self.pieces[node], node.name)
        return self.others[node]

    def emit(self, node: fx.Node, fill: Callable[[fx.Node], Any]) -> fx.Node:
        """The same operation as `node`'s, never in place, on what `fill` gives for its inputs."""
        args, kwargs = fx.map_arg(node.args, fill), fx.map_arg(node.kwargs, fill)
        if kwargs.get("inplace"):
            kwargs = {**kwargs, "inplace": False}
        if node.op == "call_module":
            module = copy.deepcopy(self.module_of(node))
            assert module is not None
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
            made = self.call(str(node.target), module)
            made.args, made.kwargs = args, kwargs
            return made
        target: Any = node.target
        if node.op == "call_method":
            target = str(target)
            if target.endswith("_") and hasattr(torch.Tensor, target[:-1]):
                target = target[:-1]
            return self.graph.call_method(target, args, kwargs)
        return self.graph.call_function(operations.OUT_OF_PLACE.get(target, target), args, kwargs)

    def by_itself(self, node: fx.Node) -> None:
        """Run an operation on whole tensors: always right, never cheap."""
        made = self.emit(node, self.whole)
        shape = self.traced.shape(node)
        if shape is not None and len(shape) >= 2:
            self.piece(node, made, tuple(range(shape[1])))
        else:
            self.others[node] = made

    def refuse(self, node: fx.Node, why: str) -> FtwtError:
        """An error that names an operation."""
        name = operations.describe(node, self.traced.module(node))
        return FtwtError(
            f"cut: cannot cut {node.name} ({name}): {why}; write it as a module of torch.nn, or "
            "leave its channels alone with where="
        )

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        one = next(self.model.parameters(), None)
        return one.device if one is not None else torch.device("cpu")
