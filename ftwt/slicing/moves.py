"""Rules for operations that keep, move or join channels without computing on them."""

import operator
from itertools import product
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from ftwt.graph import calls
from ftwt.graph.operations import Kind, is_activation, kind_of
from ftwt.slicing.builder import Builder, Piece
from ftwt.slicing.parts import UnionAdd

_FLATTEN = (torch.flatten, torch.reshape, "flatten", "view", "reshape")
_COPIES = (torch.clone, torch.detach, "clone", "detach", "contiguous")
_PADS = (
    nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d,
)  # fmt: skip
_CAT = (torch.cat, torch.concat)
_ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
# Channel by channel as far as zeros go, but not as far as values do.
_MIXING_MODULES = (nn.LocalResponseNorm, nn.RMSNorm)
_MIXING = (F.local_response_norm, F.rms_norm, F.normalize, F.prelu, torch.prelu, "prelu")


def follow(builder: Builder, node: fx.Node, *, in_site: bool) -> None:
    """Cut one operation that has no weights; in a site it is the activation, or nothing."""
    module = builder.traced.module(node)
    kind, source = kind_of(node, module), calls.source(node)
    whole = all(builder.pieces[one].whole for one in node.all_input_nodes if one in builder.pieces)
    if in_site and is_activation(node, module):
        # Channels that are missing are masked after it, whatever it makes of zero.
        if node.target in _MIXING:
            raise builder.refuse(node, "its weights belong to no module")
        by_channel(builder, node)
    elif whole:
        builder.by_itself(node)
    elif kind in (Kind.ELEMENTWISE, Kind.SPATIAL, Kind.REDUCE) and _by_channel(builder, node, kind):
        by_channel(builder, node)
    elif kind is Kind.UNION and _two(builder, node):
        _add(builder, node)
    elif kind is Kind.INTERSECTION and _two(builder, node):
        _multiply(builder, node)
    elif kind is Kind.INTERSECTION and _numbers(builder, node):
        by_channel(builder, node)
    elif not (kind is Kind.MOVE and _moved(builder, node, source)):
        builder.by_itself(node)


def by_channel(builder: Builder, node: fx.Node) -> None:
    """Run an operation that works on each channel alone, on the channels that are there."""
    (source,) = (one for one in node.all_input_nodes if one in builder.pieces)
    piece = builder.pieces[source]
    made = None
    if piece.node is not None:
        module = builder.module_of(node)
        made = builder.emit(node, lambda one: piece.node if one is source else builder.others[one])
        if isinstance(module, nn.PReLU) and module.num_parameters > 1:
            index = torch.tensor(piece.channels)
            slopes = nn.PReLU(len(index))
            slopes.weight = nn.Parameter(module.weight.detach()[index].clone())
            builder.modules[str(made.target)] = slopes
    builder.piece(node, made, piece.channels)


def _by_channel(builder: Builder, node: fx.Node, kind: Kind) -> bool:
    pieces = [one for one in node.all_input_nodes if one in builder.pieces]
    module = builder.traced.module(node)
    if (
        len(pieces) != 1
        or pieces[0] is not calls.source(node)
        or builder.traced.shape(node) is None
    ):
        return False
    before, after = builder.shape(pieces[0]), builder.shape(node)
    if kind is Kind.REDUCE and not calls.reduces_space(node, len(before) + 1):
        return False
    mixes = isinstance(module, _MIXING_MODULES) or node.target in _MIXING
    return before[:1] == after[:1] and not mixes


def _two(builder: Builder, node: fx.Node) -> bool:
    """Whether an operation has two tensors with the same number of channels."""
    sides = calls.operands(node)
    if len(sides) != 2 or not all(
        isinstance(one, fx.Node) and one in builder.pieces for one in sides
    ):
        return False
    shapes = [builder.shape(one) for one in sides]
    return shapes[0][0] == shapes[1][0] and len(shapes[0]) == len(shapes[1])


def _numbers(builder: Builder, node: fx.Node) -> bool:
    return len(node.all_input_nodes) == 1 and node.all_input_nodes[0] in builder.pieces


def _add(builder: Builder, node: fx.Node) -> None:
    """A sum has the union of both sides' channels, the wider side's first."""
    left, right = calls.operands(node)
    one, two = builder.pieces[left], builder.pieces[right]
    plain = node.target in _ADDS and not node.kwargs.get("alpha") and one.shape == two.shape
    if plain and (one.node is None or two.node is None):
        given = one if two.node is None else two
        builder.piece(node, given.node, given.channels)
    elif set(one.channels) == set(two.channels) and one.node is not None:
        other = builder.select(two, one.channels, node.name)
        made = builder.emit(node, {left: one.node, right: other}.__getitem__)
        builder.piece(node, made, one.channels)
    elif plain:
        _unite(builder, node, one, two)
    else:
        builder.by_itself(node)


def _unite(builder: Builder, node: fx.Node, one: Piece, two: Piece) -> None:
    if len(two.channels) > len(one.channels):
        one, two = two, one
    assert one.node is not None
    assert two.node is not None
    more = tuple(channel for channel in two.channels if channel not in one.channels)
    channels = one.channels + more
    if builder.traceable:
        sides = [builder.among(side, channels, node.name) for side in (one, two)]
        builder.piece(node, builder.graph.call_function(torch.add, tuple(sides)), channels)
        return
    places = [channels.index(channel) for channel in two.channels]
    module = UnionAdd(places, len(more), len(one.shape) + 1)
    builder.piece(node, builder.call(f"{node.name}_union", module, one.node, two.node), channels)


def _multiply(builder: Builder, node: fx.Node) -> None:
    """A product has the channels that both sides have."""
    left, right = calls.operands(node)
    one, two = builder.pieces[left], builder.pieces[right]
    both = tuple(channel for channel in one.channels if channel in two.channels)
    if not both:
        builder.piece(node, None, ())
        return
    chosen = {side: builder.select(builder.pieces[side], both, node.name) for side in (left, right)}
    builder.piece(node, builder.emit(node, chosen.__getitem__), both)


def _moved(builder: Builder, node: fx.Node, source: fx.Node | None) -> bool:
    """Cut an operation that moves elements, if its rule is known; says whether it is."""
    module = builder.traced.module(node)
    if node.target in _CAT:
        return _concat(builder, node)
    if source is None or source not in builder.pieces or builder.traced.shape(node) is None:
        return False
    before, after = builder.shape(source), builder.shape(node)
    if isinstance(module, nn.Identity):
        builder.pieces[node] = builder.pieces[source]
        return True
    if node.target in _COPIES or (isinstance(module, _PADS) and before[0] == after[0]):
        by_channel(builder, node)
        return True
    if isinstance(module, nn.Flatten) or node.target in _FLATTEN:
        return _flatten(builder, node, builder.pieces[source])
    if node.target is operator.getitem:
        return _sliced(builder, node, builder.pieces[source])
    if node.target is F.pad:
        return _padded(builder, node, builder.pieces[source])
    return False


def _concat(builder: Builder, node: fx.Node) -> bool:
    parts = calls.argument(node, 0, "tensors")
    dim = calls.argument(node, 1, "dim", "axis", default=0)
    if not isinstance(parts, (list, tuple)) or not all(one in builder.pieces for one in parts):
        return False
    if dim % (len(builder.shape(node)) + 1) != 1:
        return False
    channels: list[int] = []
    start, made = 0, []
    for part in parts:
        piece = builder.pieces[part]
        channels += [start + channel for channel in piece.channels]
        start += piece.shape[0]
        if piece.node is not None:
            made.append(piece.node)
    joined = builder.graph.call_function(torch.cat, (made, 1)) if made else None
    builder.piece(node, joined, tuple(channels))
    return True


def _flatten(builder: Builder, node: fx.Node, piece: Piece) -> bool:
    """(B, C, *space) to (B, C * space): each channel becomes neighbours."""
    before, after = piece.shape, builder.shape(node)
    if after != (prod(before),):
        return False
    space = prod(before[1:])
    channels = tuple(one * space + i for one, i in product(piece.channels, range(space)))
    flat = None
    if piece.node is not None:
        flat = builder.graph.call_function(torch.flatten, (piece.node, 1))
    builder.piece(node, flat, channels)
    return True


def _sliced(builder: Builder, node: fx.Node, piece: Piece) -> bool:
    """x[:, a:b, ...]: channels of a range, and any part of space."""
    index: Any = node.args[1]
    everything = slice(None)
    if not isinstance(index, tuple) or len(index) < 2 or index[0] != everything:
        return False
    if not all(isinstance(one, slice) for one in index) or node.all_input_nodes != [node.args[0]]:
        return False
    taken = range(*index[1].indices(piece.shape[0]))
    kept = tuple(channel for channel in piece.channels if channel in taken)
    made = None
    if kept:
        made = builder.select(piece, kept, node.name)
        if any(one != everything for one in index[2:]):
            made = builder.graph.call_function(
                operator.getitem, (made, (everything, everything, *index[2:]))
            )
    builder.piece(node, made, tuple(taken.index(channel) for channel in kept))
    return True


def _padded(builder: Builder, node: fx.Node, piece: Piece) -> bool:
    """Zeros around space are zeros around it; new channels of zeros are not there at all."""
    widths: Any = calls.argument(node, 1, "pad")
    rank = len(piece.shape) + 1
    if not all(isinstance(one, int) for one in widths) or len(widths) > 2 * (rank - 1):
        return False
    space, around = widths[: 2 * (rank - 2)], widths[2 * (rank - 2) :]
    mode = calls.argument(node, 2, "mode", default="constant")
    if any(one < 0 for one in around) or (around and mode != "constant"):
        return False
    made = piece.node
    if made is not None and any(space):
        kwargs = {} if mode == "constant" else {"mode": mode}
        made = builder.graph.call_function(F.pad, (made, tuple(space)), kwargs)
    shift = around[0] if around else 0
    builder.piece(node, made, tuple(channel + shift for channel in piece.channels))
    return True
