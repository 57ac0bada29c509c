"""From a program and one fixed mask for each site to a plain network: steps on live channels only.

Each value becomes a piece: the channels of it that are there, in an order of its own; the others
are zero. Steps that a program knows, and calls that work channel by channel, run on pieces; any
other call gets whole tensors, with zeros put where channels are missing.
"""

import copy
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftwt.gated.model import Gated
from ftwt.graph import operations
from ftwt.graph.channels import Select, Spread
from ftwt.graph.live import Evaluator
from ftwt.runtime.program import (
    Add,
    Affine,
    Call,
    Concat,
    Constant,
    Conv,
    Linear,
    Mask,
    Method,
    Multiply,
    Other,
    Pick,
    Program,
    Step,
    Value,
    same,
    sources_of,
)
from ftwt.slicing.layers import Share, cut_conv, cut_each, cut_linear, shares
from ftwt.slicing.parts import Append, Filled, Scaled, UnionAdd

_Channels = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """Channels of a whole tensor, in the order in which `node` holds them; None holds none."""

    node: fx.Node | None
    channels: _Channels


@dataclass(frozen=True)
class Emitted:
    """A plain network, and by name what each convolution of the program was split into."""

    network: fx.GraphModule
    shares: Mapping[str, tuple[Share, ...]]


def emit(model: Gated, program: Program, live: Evaluator, *, fold: bool) -> Emitted:
    """Write a program without gates as a network; `fold` as it was lowered with."""
    emitter = _Emitter(model, program, live, fold=fold)
    for step in program.steps:
        emitter.step(step)
    emitter.graph.output(fx.node.map_aggregate(program.result, emitter.whole))
    emitter.graph.lint()
    made = fx.GraphModule(emitter.modules, emitter.graph, type(model).__name__)
    made.train(model.training).to(emitter.device)
    return Emitted(made, emitter.shares)


class _Emitter:
    def __init__(self, model: Gated, program: Program, live: Evaluator, *, fold: bool) -> None:
        self.model, self.fold = model, fold
        self.graph = fx.Graph()
        self.modules: dict[str, Any] = {}
        self.shares: dict[str, tuple[Share, ...]] = {}
        self._live = live
        self._pieces: dict[Value, Piece] = {}
        # What is no tensor with channels, and constants.
        self._others: dict[Other | Constant, Any] = {}
        self._found: dict[tuple[Value, _Channels], fx.Node] = {}
        self._names = {id(one): name for name, one in model.named_modules()}
        self._called = {
            str(node.target)
            for node in model.anatomy.traced.graph.nodes
            if node.op == "call_module"
        }
        # Something works in place: then a tensor has one form only, which all its readers share.
        self._strict = any(isinstance(step, Call) and step.changes for step in program.steps)
        self._readers = Counter(one for step in program.steps for one in sources_of(step))
        self._masked = self._before_masks(program)
        self._inputs(program)

    def _inputs(self, program: Program) -> None:
        values = {value.name: value for value in program.inputs}
        self._first: fx.Node | None = None
        for node in self.model.anatomy.traced.graph.nodes:
            if node.op != "placeholder":
                continue
            made = self.graph.create_node(
                "placeholder", str(node.target), node.args, name=node.name
            )
            value = values.get(node.name)
            if isinstance(value, Value):
                self._first = self._first or made
                self._pieces[value] = Piece(made, tuple(range(value.shape[0])))
            elif value is not None:
                self._others[value] = made

    def _before_masks(self, program: Program) -> dict[Value | Other, _Channels]:
        """Values of which only what a mask keeps is read, up to the convolution."""
        found: dict[Value | Other, _Channels] = {}
        for step in reversed(program.steps):
            if isinstance(step, Mask):
                kept = self._evaluate(step.output)
            elif isinstance(step, (Call, Affine)) and step.output in found and _is_each(step):
                kept = found[step.output]
            else:
                continue
            for source in sources_of(step):
                if isinstance(source, Value) and self._readers[source] == 1:
                    found[source] = kept
        return found

    def step(self, step: Step) -> None:
        """Write one step."""
        match step:
            case Conv():
                self._conv(step)
            case Linear():
                self._linear(step)
            case Add():
                self._add(step)
            case Multiply():
                wanted = self._wanted(step.output, step.sources[0])
                sides = [self.at(one, wanted) for one in step.sources]
                self._keep(step.output, wanted, lambda: self._function(operator.mul, *sides))
            case Affine():
                wanted = self._wanted(step.output, step.source)
                index = torch.tensor(wanted, dtype=torch.long, device=step.scale.device)
                scaled = Scaled(step.scale[index], step.shift[index], len(step.output.shape) + 1)
                self._keep(
                    step.output,
                    wanted,
                    lambda: self._call(step.name, scaled, self.at(step.source, wanted)),
                )
            case Mask():
                wanted = self._wanted(step.output, step.source)
                self._keep(step.output, wanted, lambda: self.at(step.source, wanted))
            case Pick():
                order = {one: i for i, one in enumerate(self._pieces[step.source].channels)}
                wanted = tuple(
                    sorted(
                        self._wanted(step.output),
                        key=lambda one: order.get(step.index[one] - 1, len(order)),
                    )
                )
                places = tuple(step.index[one] - 1 for one in wanted)
                self._keep(step.output, wanted, lambda: self.at(step.source, places))
            case Concat():
                self._concat(step)
            case Call():
                self._torch(step)
            case _:
                raise TypeError(f"{type(step).__name__} is no step of a program without gates")

    def _conv(self, step: Conv) -> None:
        inputs = self._in_order(self._evaluate(step.source), step.source)
        wanted = self._wanted(step.output)
        made: list[fx.Node] = []
        computed: list[int] = []
        self.shares[step.name] = shares(step, inputs, wanted)
        for share in self.shares[step.name]:
            part = cut_conv(step, share, self._layer(step))
            made.append(self._call(step.name, part, self.at(step.source, share.inputs)))
            computed += share.outputs
        rest = tuple(one for one in wanted if one not in set(computed))

        def joined() -> fx.Node:
            whole = made[0] if len(made) == 1 else None
            if len(made) > 1:
                whole = self._function(torch.cat, made, 1)
            if not rest:
                assert whole is not None
                return whole
            # Filters whose inputs are all dead answer their bias everywhere.
            constants, rank = step.bias[list(rest)].detach().clone(), len(step.output.shape) + 1
            name = f"{step.name}_constants"
            if whole is not None:
                return self._call(name, Append(constants, rank), whole)
            return self._filled(name, constants, step.output.shape[1:])

        self._keep(step.output, (*computed, *rest), joined)

    def _linear(self, step: Linear) -> None:
        inputs, whole = self._evaluate_live(step.inputs), self._layer(step)
        everything = tuple(range(step.output.shape[0]))
        if len(step.output.shape) == 1:
            # Position i of the flat source is of channel i // space.
            space = prod(step.source.shape[1:])
            channels = tuple(dict.fromkeys(one // space for one in inputs))
            channels = self._in_order(channels, step.source)
            there = [channel * space + i for channel in channels for i in range(space)]
            read_inputs = set(inputs)
            inputs = tuple(one for one in there if one in read_inputs)
            if not inputs:
                made = self._filled(f"{step.name}_constants", step.bias.detach().clone(), ())
                self._pieces[step.output] = Piece(made, everything)
                return
            read = self.at(step.source, channels)
            if len(step.source.shape) > 1:
                read = self._function(torch.flatten, read, 1)
        else:
            read = self.whole(step.source)
            there = list(range(step.weight.shape[1]))
        cut = cut_linear(step, inputs, whole)
        if there != list(inputs):
            place = {one: i for i, one in enumerate(there)}
            last = len(step.output.shape)
            read = self._call(
                f"{step.name}_select", Select([place[one] for one in inputs], last), read
            )
        self._keep(step.output, everything, lambda: self._call(step.name, cut, read))

    def _add(self, step: Add) -> None:
        wanted = self._wanted(step.output)
        one, two = sorted(step.sources, key=lambda side: -len(self._pieces[side].channels))
        first, second = self._pieces[one], self._pieces[two]
        if first.node is None or second.node is None or set(first.channels) == set(second.channels):
            wanted = self._wanted(step.output, one)
        # The second's channels go into the first's, those that only the second has after them.
        more = tuple(channel for channel in second.channels if channel not in first.channels)
        united = {*first.channels, *more} == set(wanted)
        wanted = (*first.channels, *more) if united else wanted
        if united and second.node is None and not self._strict:
            self._pieces[step.output] = first
        elif not (united and self.fold) or set(first.channels) == set(second.channels):
            sides = [self.at(side, wanted) for side in step.sources]
            self._keep(step.output, wanted, lambda: self._function(operator.add, *sides))
        else:
            assert first.node is not None
            assert second.node is not None
            places = [wanted.index(channel) for channel in second.channels]
            united_add = UnionAdd(places, len(more), len(step.output.shape) + 1)
            united_add.inplace = self._is_own(one)
            made = self._call(f"{step.name}_union", united_add, first.node, second.node)
            self._pieces[step.output] = Piece(made, wanted)

    def _concat(self, step: Concat) -> None:
        wanted = set(self._evaluate(step.output))
        channels: list[int] = []
        parts: list[fx.Node] = []
        start = 0
        for source in step.sources:
            kept = tuple(one for one in self._pieces[source].channels if start + one in wanted)
            if kept:
                parts.append(self.at(source, kept))
            channels += [start + one for one in kept]
            start += source.shape[0]
        # What is live although it is zero here, as it may be infinite where masks are not.
        self._keep(step.output, tuple(channels), lambda: self._function(torch.cat, parts, 1))

    def _torch(self, step: Call) -> None:
        if step.run is same:
            value = self.whole(step.arguments[0])
            assert isinstance(step.output, Value)
            self._pieces[step.output] = Piece(value, tuple(range(step.output.shape[0])))
        elif step.each and isinstance(step.output, Value):
            source = next(one for one in sources_of(step) if isinstance(one, Value))
            wanted, width = self._wanted(step.output, source), source.shape[0]

            def fill(leaf: Any) -> Any:
                return self.at(source, wanted) if leaf is source else self.whole(leaf)

            in_place = self._is_own(source)
            run = step.run
            if isinstance(run, nn.Module):
                module = cut_each(run, wanted, width)
                if hasattr(module, "inplace"):
                    module.inplace = in_place  # type: ignore[assignment]
                named = self._names.get(id(run), step.name)
                self._keep(step.output, wanted, lambda: self._written(module, step, fill, named))
            else:
                self._keep(step.output, wanted, lambda: self._written(run, step, fill, step.name))
        else:
            run, name = step.run, step.name
            if isinstance(run, nn.Module):
                name = self._names.get(id(run), step.name)
                run = copy.deepcopy(run)
                if not step.changes and hasattr(run, "inplace"):
                    run.inplace = False  # type: ignore[assignment]
            made = self._written(run, step, self.whole, name)
            if isinstance(step.output, Value):
                self._pieces[step.output] = Piece(made, tuple(range(step.output.shape[0])))
            else:
                self._others[step.output] = made

    def _written(
        self, run: Callable[..., Any], step: Call | Constant, fill: Callable[[Any], Any], name: str
    ) -> fx.Node:
        """A node that runs what a call does, on what `fill` gives for its arguments."""
        args = fx.node.map_aggregate(step.arguments, fill)
        keywords = dict(fx.node.map_aggregate(dict(step.keywords), fill))
        if isinstance(run, nn.Module):
            made = self._call(name, run)
            made.args, made.kwargs = args, keywords
            return made
        keeps = isinstance(step, Call) and step.changes
        if not keeps and keywords.get("inplace"):
            keywords["inplace"] = False
        if isinstance(run, Method):
            method = run.name
            if not keeps and method.endswith("_") and hasattr(Tensor, method[:-1]):
                method = method[:-1]
            return self.graph.call_method(method, args, keywords)
        if isinstance(run, partial):
            args, keywords = (*run.args, *args), {**run.keywords, **keywords}
            run = run.func
        if not keeps:
            run = operations.OUT_OF_PLACE.get(run, run)
        return self.graph.call_function(run, args, keywords)

    def at(self, value: Value, channels: _Channels) -> fx.Node:
        """A value's channels in this order, with zeros for those that are not there."""
        piece, rank = self._pieces[value], len(value.shape) + 1
        if channels == piece.channels and piece.node is not None:
            return piece.node
        key = (value, channels)
        if key in self._found:
            return self._found[key]
        there = {channel: i for i, channel in enumerate(piece.channels)}
        present = tuple(channel for channel in channels if channel in there)
        if piece.node is None or not present:
            zeros = torch.zeros(len(channels), dtype=self._dtype, device=self.device)
            made = self._filled(f"{value.name}_zeros", zeros, value.shape[1:])
        elif len(present) < len(channels):
            place = {channel: i for i, channel in enumerate(present)}
            spread = Spread([place.get(channel, -1) for channel in channels], rank)
            made = self._call(f"{value.name}_spread", spread, self.at(value, present))
        else:
            select = Select([there[channel] for channel in channels])
            made = self._call(f"{value.name}_select", select, piece.node)
        self._found[key] = made
        return made

    def whole(self, leaf: Any) -> Any:
        """An argument of a call that gets whole tensors."""
        if isinstance(leaf, Value):
            made = self.at(leaf, tuple(range(leaf.shape[0])))
            if self._strict:
                self._pieces[leaf] = Piece(made, tuple(range(leaf.shape[0])))
            return made
        if isinstance(leaf, Constant):
            return self._constant(leaf)
        return self._others[leaf] if isinstance(leaf, Other) else leaf

    def _constant(self, constant: Constant) -> Any:
        if constant in self._others:
            return self._others[constant]
        made = constant.value
        if constant.run is not None:
            if _holds_tensor(made):
                run = constant.run
                made = self._written(
                    run, constant, self.whole, self._names.get(id(run), "constant")
                )
        elif constant.path is not None and constant.path.rpartition(".")[2] == "training":
            # The mode, which the network follows as the whole one does.
            self.modules["training"] = self.model.training
            made = self.graph.get_attr("training")
        elif constant.path is not None and isinstance(made, Tensor):
            own = constant.path.split(".")
            inside = any(".".join(own[:depth]) in self._called for depth in range(1, len(own)))
            name = self._free("_".join(own) if inside else constant.path)
            tensor = made.detach().clone()
            parameter = isinstance(made, nn.Parameter)
            self.modules[name] = nn.Parameter(tensor, made.requires_grad) if parameter else tensor
            made = self.graph.get_attr(name)
        self._others[constant] = made
        return made

    def _wanted(self, value: Value, like: Value | None = None) -> _Channels:
        """The channels that a step makes, in the order of `like` as far as that has them."""
        live = self._masked[value] if value in self._masked else self._evaluate(value)
        return live if like is None else self._in_order(live, like)

    def _in_order(self, channels: _Channels, like: Value) -> _Channels:
        """Channels in the order of a value's piece, those that it does not have after them.

        Files of narrowed networks count on this order: weights of another would be mixed up.
        """
        kept = set(channels)
        first = [one for one in self._pieces[like].channels if one in kept]
        done = set(first)
        return (*first, *(one for one in channels if one not in done))

    def _evaluate(self, value: Value) -> _Channels:
        return self._evaluate_live(value.live)

    def _evaluate_live(self, live: Any) -> _Channels:
        return tuple(self._live(live)[0].nonzero().flatten().tolist())

    def _keep(self, value: Value, channels: _Channels, make: Callable[[], fx.Node]) -> None:
        """Note what a value became; what has no live channel is not computed."""
        self._pieces[value] = Piece(make() if channels else None, channels)

    def _is_own(self, value: Value) -> bool:
        """Whether a tensor was just made and is read once, so that it can be worked on in place."""
        node = self._pieces[value].node
        maker = self.modules.get(str(node.target)) if node is not None else None
        made = isinstance(maker, (nn.Conv2d, Append, UnionAdd)) and self._readers[value] == 1
        return made and self.fold and not self._strict

    def _layer(self, step: Conv | Linear) -> nn.Module | None:
        """The module that a layer's weights are from, if they are one's."""
        try:
            found = self.model.get_submodule(step.name.partition("@")[0])
        except AttributeError:
            return None
        layer = isinstance(found, (nn.Conv2d, nn.Linear))
        return found if layer and found.weight.shape == step.weight.shape else None

    def _function(self, run: Callable[..., Any], *args: Any) -> fx.Node:
        return self.graph.call_function(run, args)

    def _filled(self, name: str, numbers: Tensor, space: tuple[int, ...]) -> fx.Node:
        assert self._first is not None
        return self._call(name, Filled(numbers, space), self._first)

    def _call(self, name: str, module: nn.Module, *inputs: fx.Node) -> fx.Node:
        """Call a new module, under `name` or the next free name."""
        free = self._free(name.replace("@", "_"))
        self.modules[free] = module
        return self.graph.call_module(free, inputs)

    def _free(self, name: str) -> str:
        free, count = name, 1
        while free in self.modules:
            count += 1
            free = f"{name}_{count}"
        return free

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        one = next(self.model.parameters(), None)
        return one.device if one is not None else torch.device("cpu")

    @property
    def _dtype(self) -> torch.dtype:
        floats = (one.dtype for one in self.model.parameters() if one.is_floating_point())
        return next(floats, torch.float32)


def _is_each(step: Step) -> bool:
    return not isinstance(step, Call) or step.each


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(one) for one in value)
    return isinstance(value, Tensor)
