"""Operations other than convolutions that back ends know."""

from typing import Any

from torch import Tensor, fx, nn

from ftwt.graph import calls, operations
from ftwt.graph.live import Reorder
from ftwt.graph.operations import Kind, Role
from ftwt.runtime.lowering import moves, recognise
from ftwt.runtime.lowering.building import Building
from ftwt.runtime.lowering.lives import simplified
from ftwt.runtime.lowering.moves import Moved
from ftwt.runtime.lowering.pools import pooling
from ftwt.runtime.program import (
    Activate,
    Add,
    Affine,
    Concat,
    ConstantValue,
    Linear,
    Multiply,
    Pick,
    Pooling,
    Value,
)


def known(building: Building, node: fx.Node) -> bool:
    """Make a node a step that back ends know, if it is one."""
    module = building.module(node)
    if _passes(building, node, module):
        source = calls.source_of(node)
        assert source is not None
        building.made[node] = building.made[source]
        if source in building.moved:
            building.moved[node] = building.moved[source]
        return True
    kind = operations.kind_of(node, module)
    if kind is Kind.MOVE:
        return _concatenation(building, node) or _move(building, node)
    return (
        _linear(building, node, module)
        or _simple(building, node, module)
        or _addition_at(building, node)
    )


def _passes(building: Building, node: fx.Node, module: nn.Module | None) -> bool:
    source = calls.source_of(node)
    if source is None or not isinstance(building.made.get(source), Value):
        return False
    role = operations.operation_of(node, module).role
    if role is Role.DROP and not building.fold:
        return False
    return recognise.is_identity(node, module, building.read)


def _simple(building: Building, node: fx.Node, module: nn.Module | None) -> bool:
    """Operations of one tensor, sums and products."""
    shape = building.batch_shape(node)
    if shape is None:
        return False
    output, name = building.value(node), node.name
    source = calls.source_of(node)
    of = building.made.get(source) if source is not None else None
    if recognise.is_sum(node) or recognise.is_product(node):
        return _binary(building, node, output)
    if not isinstance(of, Value) or source is None:
        return False
    activation = recognise.activation(node, module) if building.gates else None
    if activation is not None:
        return building.add(node, Activate(name, of, output, activation))
    shapes = (building.traced.shapes[source.name], shape)
    pool = pooling(node, module, building.read, shapes) if building.gates else None
    if pool is not None:
        return building.add(node, Pooling(name, of, output, None if pool == "whole" else pool))
    norm = recognise.norm(node, module, building.read) if building.fold else None
    if norm is None:
        return False
    after = None
    if norm.activation is not None:
        after = recognise.activation_of(norm.activation) if building.gates else None
        if after is None:
            return False
    scale, shift = _affine(norm)
    return building.add(node, Affine(name, of, output, scale, shift, after))


def _binary(building: Building, node: fx.Node, output: Value) -> bool:
    sources = [building.made.get(one) for one in calls.operands(node) if isinstance(one, fx.Node)]
    if len(sources) != 2:
        return False
    one, two = sources
    if not isinstance(one, Value) or not isinstance(two, Value):
        return False
    if recognise.is_sum(node):
        if one.shape != two.shape:
            return False
        return building.add(node, Add(node.name, (one, two), output))
    narrow = [value.shape == (output.shape[0], 1, 1) for value in (one, two)]
    full = [value.shape == output.shape for value in (one, two)]
    if not (any(full) and all(f or n for f, n in zip(full, narrow, strict=True))):
        return False
    return building.add(node, Multiply(node.name, (one, two), output))


def _addition_at(building: Building, node: fx.Node) -> bool:
    """A sum over some channels, as cut networks have it: the others are zero on one side."""
    places = recognise.added_at(node, building.read)
    if places is None:
        return False
    operands = calls.argument(node, 0, "input"), calls.argument(node, 3, "source")
    one, two = (building.made.get(operand) for operand in operands)
    if not isinstance(one, Value) or not isinstance(two, Value) or one.shape[1:] != two.shape[1:]:
        return False
    where = {channel: place for place, channel in enumerate(places, start=1)}
    index = tuple(where.get(channel, 0) for channel in range(one.shape[0]))
    spread = Value(f"{node.name}_spread", one.shape, simplified(Reorder(two.live, index)))
    building.steps.append(Pick(spread.name, two, spread, index))
    return building.add(node, Add(node.name, (one, spread), building.value(node)))


def _concatenation(building: Building, node: fx.Node) -> bool:
    shape = building.batch_shape(node)
    parts = recognise.concatenated(node, len(shape)) if shape is not None else None
    if parts is None:
        return False
    values = [building.made.get(part) for part in parts if isinstance(part, fx.Node)]
    sources = tuple(value for value in values if isinstance(value, Value))
    if len(sources) != len(parts):
        return False
    return building.add(node, Concat(node.name, sources, building.value(node)))


def _linear(building: Building, node: fx.Node, module: nn.Module | None) -> bool:
    found = recognise.linear(node, module, building.read)
    source, shape = calls.source_of(node), building.batch_shape(node)
    if found is None or source is None or shape is None:
        return False
    value, moved = building.made[source], building.moved.get(source)
    if isinstance(moved, Moved) and moved.flat and moved.places.dim() == 2:
        # Whoever reads a flattened tensor may as well read it as it was.
        value = moved.source
    if not isinstance(value, Value):
        return False
    if len(shape) == 2 and value.shape != (found[0].shape[1],) and value is building.made[source]:
        return False
    weight, bias = found
    inputs = building.live(source, weight.shape[1], -1)
    name = building.names.get(node, node.name)
    return building.add(node, Linear(name, value, inputs, building.value(node), weight, bias))


def _move(building: Building, node: fx.Node) -> bool:
    """Operations that only move elements: nothing at all, a pick, or torch's own."""
    # Where something works in place, views stay views.
    moved = None if building.strict else _follow(building, node)
    if moved is None:
        return False
    building.moved[node] = moved
    if not isinstance(moved, Moved):
        return False
    if moved.same:
        # Steps make contiguous tensors, torch's own operations need not.
        copies = operations.operation_of(node, building.module(node)).role is Role.COPY
        if copies and moved.source in building.called:
            return False
        building.made[node] = moved.source
        return True
    picked = moved.pick()
    if picked is None or building.batch_shape(node) is None:
        return False
    index, stride = picked
    if moved.places.dim() != 1 + len(moved.source.shape) and not building.gates:
        # A single position is told from one size of image.
        return False
    if stride != (1, 1) and not building.gates:
        # A stride is told from one size of image; the operation itself knows it of every size.
        del building.moved[node]
        return False
    return building.add(node, Pick(node.name, moved.source, building.value(node), index, stride))


def _follow(building: Building, node: fx.Node) -> Any:
    given: dict[fx.Node, Moved] = {}
    for arg in node.all_input_nodes:
        if building.traced.shape(arg) is None and arg in building.moved:
            return moves.item(node, building.moved[arg])
        made = building.made.get(arg)
        if arg in building.moved:
            given[arg] = building.moved[arg]
        elif isinstance(made, Value):
            given[arg] = moves.start_of(made)
        elif building.traced.shape(arg) is not None:
            return None
    if not given:
        return None

    def rest(arg: fx.Node) -> Any:
        made = building.made[arg]
        if isinstance(made, ConstantValue):
            return made.value
        return building.traced.values[arg.name]

    return moves.follow(node, building.runner(node), given, rest)


def _affine(norm: recognise.Norm) -> tuple[Tensor, Tensor]:
    scale = (norm.variance + norm.epsilon).rsqrt()
    if norm.scale is not None:
        scale = scale * norm.scale
    shift = -norm.mean * scale
    if norm.shift is not None:
        shift = shift + norm.shift
    return scale.detach(), shift.detach()
