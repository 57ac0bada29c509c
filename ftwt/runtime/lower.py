"""From a gated network to a program of steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ftwt import calls, operations
from ftwt.errors import FtwtError
from ftwt.live import All, OfSite
from ftwt.model import Anatomy, Gated, SiteGate
from ftwt.operations import Kind
from ftwt.runtime import moves, recognise
from ftwt.runtime.gating import gate_of
from ftwt.runtime.lives import simplified, sites_in
from ftwt.runtime.moves import Moved
from ftwt.runtime.peephole import tidied
from ftwt.runtime.program import (
    Activate,
    Activation,
    Add,
    Affine,
    Call,
    Concat,
    Conv,
    Gate,
    Linear,
    Mask,
    Multiply,
    Other,
    Pick,
    Pooling,
    Program,
    Step,
    Value,
)
from ftwt.sites import Candidate
from ftwt.tracing import PROBE_BATCH

T = TypeVar("T")


def lower(model: Gated, anatomy: Anatomy) -> Program:
    """Describe what `model` does, in eval mode, on inputs of the shape that `anatomy` is for.

    Weights are those of the moment: folding copies them.
    """
    with torch.no_grad():
        program = _Lowering(model, anatomy, strict=False).run()
        if any(isinstance(step, Call) and step.changes for step in program.steps):
            program = _Lowering(model, anatomy, strict=True).run()
    return program


@dataclass(frozen=True)
class _Constant:
    """What is known before any input comes."""

    value: Any


class _Lowering:
    """One pass over a traced graph.

    `strict` keeps apart what only copies keep apart; it matters where operations that torch runs
    work in place.
    """

    def __init__(self, model: Gated, anatomy: Anatomy, *, strict: bool) -> None:
        self.model, self.anatomy, self.strict = model, anatomy, strict
        self.traced = anatomy.traced
        self.steps: list[Step] = []
        self.made: dict[fx.Node, Value | Other | _Constant] = {}
        self.moved: dict[fx.Node, Any] = {}
        self.fused: set[fx.Node] = set()
        self.called: set[Value | Other] = set()
        self.convolutions = {one.convolution: one for one in anatomy.candidates}
        self.sites = {site.name for site in anatomy.sites}
        self.masked = {site.output for site in anatomy.sites}
        computing = [node for node in self.traced.graph.nodes if self.traced.macs.get(node.name)]
        layers = zip(computing, anatomy.plan.layers, strict=True)
        self.names = {node: layer.name for node, layer in layers}
        self.entangled = self._entangled()

    def run(self) -> Program:
        """Go through the graph."""
        inputs: list[Value] = []
        result: Any = None
        for node in self.traced.graph.nodes:
            if node in self.fused:
                continue
            if node.op == "placeholder":
                inputs += self._placeholder(node)
            elif node.op == "get_attr":
                self.made[node] = _Constant(self._attribute(str(node.target)))
            elif node.op == "output":
                result = fx.node.map_arg(node.args[0], self._argument)
            elif self._is_constant(node):
                args = fx.node.map_arg((node.args, node.kwargs), self._argument)
                self.made[node] = _Constant(self._runner(node)(*args[0], **args[1]))
            else:
                self._operation(node)
        program = Program(tuple(inputs), tuple(self.steps), result)
        weights = (one for one in self.model.parameters() if one.is_floating_point())
        for one in weights:
            program = replace(program, dtype=one.dtype, device=one.device)
            break
        return tidied(program)

    def _placeholder(self, node: fx.Node) -> list[Value]:
        if self.traced.shape(node) is None:
            self.made[node] = _Constant(self.traced.values.get(node.name))
            return []
        value = self._value(node)
        self.made[node] = value
        if self.strict:
            # What works in place must not reach the caller's tensor.
            self._call(node, torch.clone, (value,), {})
        return [value]

    def _operation(self, node: fx.Node) -> None:
        if node in self.convolutions:
            self._convolution(self.convolutions[node])
        elif node in self.entangled or not self._known(node):
            self._as_is(node)

    def _known(self, node: fx.Node) -> bool:
        """Make a node a step that back ends know, if it is one."""
        module = self._module(node)
        if self._passes(node, module):
            source = calls.source(node)
            assert source is not None
            self.made[node] = self.made[source]
            if source in self.moved:
                self.moved[node] = self.moved[source]
            return True
        kind = operations.kind_of(node, module)
        if kind is Kind.MOVE:
            return self._concatenation(node) or self._move(node)
        return self._linear(node, module) or self._simple(node, module)

    def _passes(self, node: fx.Node, module: nn.Module | None) -> bool:
        source = calls.source(node)
        if source is None or not isinstance(self.made.get(source), Value):
            return False
        return recognise.passes(node, module, self._read)

    def _simple(self, node: fx.Node, module: nn.Module | None) -> bool:
        """Operations of one tensor, sums and products."""
        shape = self._batch_shape(node)
        if shape is None:
            return False
        output, name = self._value(node), node.name
        source = calls.source(node)
        of = self.made.get(source) if source is not None else None
        if recognise.is_sum(node) or recognise.is_product(node):
            return self._binary(node, output)
        if not isinstance(of, Value) or source is None:
            return False
        activation = recognise.activation(node, module)
        if activation is not None:
            return self._add(node, Activate(name, of, output, activation))
        shapes = (self.traced.shapes[source.name], shape)
        pool = recognise.pooling(node, module, self._read, shapes)
        if pool is not None:
            return self._add(node, Pooling(name, of, output, None if pool == "whole" else pool))
        norm = recognise.norm(node, module, self._read)
        if norm is not None and norm.activation is None:
            scale, shift = _affine(norm)
            return self._add(node, Affine(name, of, output, scale, shift))
        return False

    def _binary(self, node: fx.Node, output: Value) -> bool:
        sources = [self.made.get(one) for one in calls.operands(node) if isinstance(one, fx.Node)]
        if len(sources) != 2:
            return False
        one, two = sources
        if not isinstance(one, Value) or not isinstance(two, Value):
            return False
        if recognise.is_sum(node):
            if one.shape != two.shape:
                return False
            return self._add(node, Add(node.name, (one, two), output))
        narrow = [value.shape == (output.shape[0], 1, 1) for value in (one, two)]
        full = [value.shape == output.shape for value in (one, two)]
        if not (any(full) and all(f or n for f, n in zip(full, narrow, strict=True))):
            return False
        return self._add(node, Multiply(node.name, (one, two), output))

    def _concatenation(self, node: fx.Node) -> bool:
        shape = self._batch_shape(node)
        parts = recognise.concatenated(node, len(shape)) if shape is not None else None
        if parts is None:
            return False
        values = [self.made.get(part) for part in parts if isinstance(part, fx.Node)]
        sources = tuple(value for value in values if isinstance(value, Value))
        if len(sources) != len(parts):
            return False
        return self._add(node, Concat(node.name, sources, self._value(node)))

    def _move(self, node: fx.Node) -> bool:
        """Operations that only move elements: nothing at all, a pick, or torch's own."""
        # Where something works in place, views stay views.
        moved = None if self.strict else self._follow(node)
        if moved is None:
            return False
        self.moved[node] = moved
        if not isinstance(moved, Moved):
            return False
        if moved.same:
            # Steps make contiguous tensors, torch's own operations need not.
            copies = recognise.target_of(node) in recognise.COPIES
            if copies and moved.source in self.called:
                return False
            self.made[node] = moved.source
            return True
        picked = moved.pick()
        if picked is None or self._batch_shape(node) is None:
            return False
        index, stride = picked
        return self._add(node, Pick(node.name, moved.source, self._value(node), index, stride))

    def _follow(self, node: fx.Node) -> Any:
        given: dict[fx.Node, Moved] = {}
        for arg in node.all_input_nodes:
            if self.traced.shape(arg) is None and arg in self.moved:
                return moves.item(node, self.moved[arg])
            made = self.made.get(arg)
            if arg in self.moved:
                given[arg] = self.moved[arg]
            elif isinstance(made, Value):
                given[arg] = moves.start_of(made)
            elif self.traced.shape(arg) is not None:
                return None
        if not given:
            return None

        def rest(arg: fx.Node) -> Any:
            made = self.made[arg]
            if isinstance(made, _Constant):
                return made.value
            return self.traced.values[arg.name]

        return moves.follow(node, self._runner(node), given, rest)

    def _linear(self, node: fx.Node, module: nn.Module | None) -> bool:
        found = recognise.linear(node, module, self._read)
        source, shape = calls.source(node), self._batch_shape(node)
        if found is None or source is None or shape is None:
            return False
        value, moved = self.made[source], self.moved.get(source)
        if isinstance(moved, Moved) and moved.flat and moved.places.dim() == 2:
            # Whoever reads a flattened tensor may as well read it as it was.
            value = moved.source
        if not isinstance(value, Value):
            return False
        if len(shape) == 2 and value.shape != (found[0].shape[1],) and value is self.made[source]:
            return False
        weight, bias = found
        inputs = simplified(self.anatomy.liveness.channels(source, -1))
        name = self.names.get(node, node.name)
        return self._add(node, Linear(name, value, inputs, self._value(node), weight, bias))

    def _convolution(self, candidate: Candidate) -> None:
        node = candidate.convolution
        source = calls.source(node)
        value = self.made.get(source) if source is not None else None
        site = candidate.name if candidate.name in self.sites else None
        conv = recognise.convolution(node, self._module(node), self._read)
        if not isinstance(value, Value):
            if site is not None:
                raise FtwtError(
                    f"skip: the input of {candidate.name!r} does not have the batch as its first "
                    "dimension; leave it out with attach(where=...)"
                )
            self._as_is(node)
            return
        if site is not None:
            gate = self.model.get_submodule(f"gates.{candidate.key}")
            assert isinstance(gate, SiteGate)
            self.steps.append(Gate(site, value, *gate_of(gate)))
        rest = _until(node, candidate.output)
        if conv is None:
            self._as_is(node)
        else:
            self._fuse(candidate, value, conv, rest)
        for one in rest:
            if not self._known(one):
                self._as_is(one)
            self.fused.add(one)
        if site is not None and (conv is None or rest):
            bare = self.made[candidate.output]
            assert isinstance(bare, Value)
            value = self._value(candidate.output, masked=True)
            self.steps.append(Mask(f"{value.name}_masked", bare, value, site))
            self.made[candidate.output] = value

    def _fuse(
        self,
        candidate: Candidate,
        value: Value,
        conv: recognise.Convolution,
        rest: list[fx.Node],
    ) -> None:
        """One step for a convolution and as much as possible of what follows, taken off `rest`."""
        node = candidate.convolution
        site = candidate.name if candidate.name in self.sites else None
        taken = [node]
        norm = self._take(rest, taken, self._norm)
        activation: Activation | None = None
        extra = None if norm is None else norm.activation
        if norm is not None:
            conv = recognise.folded(conv, norm)
        if extra is not None:
            activation = recognise.activation_of(extra)
            extra = extra if activation is None else None
        else:
            activation = self._take(rest, taken, recognise.activation)
        if extra is None and all(isinstance(self._module(one), nn.Identity) for one in rest):
            taken += rest
            rest.clear()
        if conv.pad_mode != "constant":
            value, conv = self._padded(node, value, conv)
        output = self._value(taken[-1], masked=not rest and extra is None)
        if site is not None and (rest or extra is not None):
            output = replace(output, live=OfSite(site, output.shape[0]))
        self.steps.append(
            Conv(
                self.names.get(node, candidate.name), value, output, conv.weight, conv.bias,
                conv.stride, conv.padding, conv.dilation, conv.groups, activation, site,
            )
        )  # fmt: skip
        self.made.update(dict.fromkeys(taken, output))
        self.fused.update(taken)
        if extra is not None:
            whole = Value(f"{output.name}_act", output.shape, All(output.shape[0]))
            self.steps.append(Call(whole.name, extra, (output,), {}, whole))
            self.made[taken[-1]] = whole
            if site is not None and not rest:
                masked = self._value(candidate.output, masked=True)
                self.steps.append(Mask(f"{masked.name}_masked", whole, masked, site))
                self.made[candidate.output] = masked

    def _norm(self, node: fx.Node, module: nn.Module | None) -> recognise.Norm | None:
        return recognise.norm(node, module, self._read)

    def _take(
        self,
        rest: list[fx.Node],
        taken: list[fx.Node],
        known: Callable[[fx.Node, nn.Module | None], T | None],
    ) -> T | None:
        """What the next node of `rest` is, past modules that do nothing; it goes to `taken`."""
        for place, node in enumerate(rest):
            module = self._module(node)
            if isinstance(module, nn.Identity):
                continue
            found = known(node, module)
            if found is not None:
                taken += rest[: place + 1]
                del rest[: place + 1]
            return found
        return None

    def _padded(
        self, node: fx.Node, value: Value, conv: recognise.Convolution
    ) -> tuple[Value, recognise.Convolution]:
        """Padding that is not zeros, as a step of its own."""
        (high, wide), (rows, columns) = value.shape[1:], conv.padding
        shape = (value.shape[0], high + 2 * rows, wide + 2 * columns)
        output = Value(f"{node.name}_padded", shape, value.live)
        pad = partial(F.pad, pad=(columns, columns, rows, rows), mode=conv.pad_mode)
        self.steps.append(Call(output.name, pad, (value,), {}, output))
        return output, replace(conv, padding=(0, 0), pad_mode="constant")

    def _as_is(self, node: fx.Node) -> None:
        """Leave a node to torch."""
        args, keywords = fx.node.map_arg((node.args, node.kwargs), self._argument)
        self._call(node, self._runner(node), args, keywords)

    def _call(self, node: fx.Node, run: Callable[..., Any], args: Any, keywords: Any) -> None:
        shape = self._batch_shape(node)
        output = Other(node.name) if shape is None else self._value(node)
        changed = self.traced.changed.get(node.name, ())
        name = self.names.get(node, node.name)
        changes = bool(changed) and run is not torch.clone
        self.steps.append(Call(name, run, args, keywords, output, changes))
        self.called.add(output)
        self.made[node] = output
        if changes:
            self._rebind(node)

    def _rebind(self, node: fx.Node) -> None:
        """Let what a node changed in place be read, from now on, as it is now."""
        for other in self._read_later(node):
            old = self.made[other]
            self.moved.pop(other, None)
            if isinstance(old, Value):
                new = Value(
                    f"{other.name}_after_{node.name}",
                    old.shape,
                    self._value(other, masked=True).live,
                )
                self.steps.append(Call(new.name, _same, (old,), {}, new))
                self.made[other] = new

    def _entangled(self) -> set[fx.Node]:
        """Nodes whose tensors are changed in place and read after that, and what changes them."""
        found: set[fx.Node] = set()
        for node in self.traced.graph.nodes:
            later = self._read_later(node)
            found.update(later, [node] if later else [])
        return found

    def _read_later(self, node: fx.Node) -> list[fx.Node]:
        changed = self.traced.changed.get(node.name, ())
        if not changed:
            return []
        nodes = list(self.traced.graph.nodes)
        after = set(nodes[nodes.index(node) + 1 :])
        return [one for one in nodes if one.name in changed and after & set(one.users)]

    def _add(self, node: fx.Node, step: Step) -> bool:
        self.steps.append(step)
        assert not isinstance(step, Gate)
        self.made[node] = step.output
        return True

    def _value(self, node: fx.Node, *, masked: bool = False) -> Value:
        """A node's tensor; `masked` if it is a site's output after its mask."""
        shape = self._batch_shape(node)
        assert shape is not None
        if node in self.masked and not masked:
            return Value(node.name, tuple(shape[1:]), All(shape[1]))
        live = simplified(self.anatomy.liveness.channels(node))
        decided = {step.site for step in self.steps if isinstance(step, Gate)}
        if not sites_in(live) <= decided:
            # It is changed in place later, and has the channels of then; now it has fewer.
            site = next((one.name for one in self.anatomy.sites if one.output is node), None)
            live = All(shape[1]) if site is None else OfSite(site, shape[1])
        return Value(node.name, tuple(shape[1:]), live)

    def _batch_shape(self, node: fx.Node) -> torch.Size | None:
        """The shape of a tensor that holds a batch of something, else None."""
        shape = self.traced.shape(node)
        return shape if shape is not None and len(shape) > 1 and shape[0] == PROBE_BATCH else None

    def _is_constant(self, node: fx.Node) -> bool:
        inputs = node.all_input_nodes
        return bool(inputs) and all(isinstance(self.made.get(one), _Constant) for one in inputs)

    def _argument(self, node: fx.Node) -> Any:
        made = self.made[node]
        return made.value if isinstance(made, _Constant) else made

    def _read(self, value: Any) -> Any:
        """An argument's value if it is known beforehand; a node where it is not."""
        if isinstance(value, fx.Node):
            made = self.made.get(value)
            return made.value if isinstance(made, _Constant) else value
        return value

    def _attribute(self, target: str) -> Any:
        owner: Any = self.model
        for name in target.split("."):
            owner = getattr(owner, name)
        return owner

    def _module(self, node: fx.Node) -> nn.Module | None:
        if node.op != "call_module":
            return None
        return self.model.get_submodule(str(node.target))

    def _runner(self, node: fx.Node) -> Callable[..., Any]:
        module = self._module(node)
        if module is not None:
            return module
        if node.op == "call_method":
            return _Method(str(node.target))
        assert callable(node.target)
        return node.target


@dataclass(frozen=True)
class _Method:
    """A method by its name, called as a function."""

    name: str

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return getattr(args[0], self.name)(*args[1:], **keywords)


def _same(value: Any) -> Any:
    return value


def _until(node: fx.Node, last: fx.Node) -> list[fx.Node]:
    """What follows a node, up to `last`, each the only reader of the one before."""
    found: list[fx.Node] = []
    while node is not last:
        node = next(iter(node.users))
        found.append(node)
    return found


def _affine(norm: recognise.Norm) -> tuple[Tensor, Tensor]:
    scale = (norm.variance + norm.epsilon).rsqrt()
    if norm.scale is not None:
        scale = scale * norm.scale
    shift = -norm.mean * scale
    if norm.shift is not None:
        shift = shift + norm.shift
    return scale.detach(), shift.detach()
