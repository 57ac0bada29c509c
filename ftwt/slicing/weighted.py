"""Rules for the operations with weights: convolutions, batch norms and linear layers."""

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ftwt.graph import calls, operations
from ftwt.slicing.builder import Builder, Piece
from ftwt.slicing.layers import (
    Norm,
    at_zero,
    cut_conv,
    cut_linear,
    cut_norm,
    scale_and_shift,
    shares,
)
from ftwt.slicing.parts import Append, Constant

_CONV_FUNCTIONS = (F.conv1d, F.conv2d, F.conv3d, torch.conv2d, F.linear)


class Weighted:
    """The rules, for one network. `inside` is the output of the site that each node is part of."""

    def __init__(self, builder: Builder, inside: dict[fx.Node, fx.Node], *, fold: bool) -> None:
        self._builder, self._inside, self._fold = builder, inside, fold
        # Batch norms that are part of a convolution already.
        self._folded: dict[fx.Node, fx.Node] = {}

    def follow(self, node: fx.Node) -> bool:
        """Cut one operation, if it is one of these; says whether it is."""
        builder = self._builder
        module, source = builder.module_of(node), calls.source(node)
        given = builder.pieces.get(source) if source is not None else None
        if operations.hooked(module):
            raise builder.refuse(node, "it has forward hooks")
        if node in self._folded:
            builder.pieces[node] = builder.pieces[self._folded[node]]
        elif isinstance(module, nn.Conv2d) and operations.is_a(module, (nn.Conv2d,)):
            self._conv(node, module)
        elif isinstance(module, operations.BATCH_NORMS):
            self._norm(node, module)
        elif isinstance(module, nn.Linear) and given is not None and _is_flat(module, given):
            self._linear(node, module)
        elif node.op == "call_function" and node.target in _CONV_FUNCTIONS:
            if node in self._inside or given is None or not given.whole:
                raise builder.refuse(node, "its weights belong to no module")
            return False
        elif builder.traced.macs.get(node.name) and given is not None and not given.whole:
            raise builder.refuse(node, "its cost for a part of the channels is not known")
        else:
            return False
        return True

    def _conv(self, node: fx.Node, conv: nn.Conv2d) -> None:
        builder = self._builder
        source = calls.source(node)
        assert source is not None
        norm, last = None, self._inside.get(node, node)
        after = self._norm_after(node) if self._fold else None
        if after is not None:
            norm = builder.module_of(after)
            self._folded[after] = node
            last = self._inside.get(node, after)
        piece = builder.pieces[source]
        live = set(builder.live(source))
        inputs = tuple(one for one in piece.channels if one in live)
        wanted = self._readers_first(last)
        made: list[fx.Node] = []
        computed: list[int] = []
        assert norm is None or isinstance(norm, operations.BATCH_NORMS)
        builder.shares[node] = shares(conv, inputs, wanted)
        for share in builder.shares[node]:
            part = builder.select(piece, share.inputs, node.name)
            made.append(builder.call(str(node.target), cut_conv(conv, share, norm), part))
            computed += share.outputs
        rest = tuple(one for one in wanted if one not in set(computed))
        joined = self._join(node, made, at_zero(conv, norm), rest)
        builder.piece(node, joined, (*computed, *rest))

    def _readers_first(self, last: fx.Node) -> tuple[int, ...]:
        """Live channels, those that a depthwise site runs on first: it needs no copy of them."""
        live = self._builder.live(last)
        reader = next(iter(last.users), None)
        if reader is None or len(last.users) > 1 or reader not in self._inside:
            return live
        module = self._builder.module_of(reader)
        if not isinstance(module, nn.Conv2d) or module.groups != module.out_channels:
            return live
        read = set(self._builder.live(self._inside[reader]))
        return tuple(sorted(live, key=lambda channel: channel not in read))

    def _norm(self, node: fx.Node, norm: Norm) -> None:
        builder = self._builder
        source = calls.source(node)
        assert source is not None
        if norm.running_mean is None:
            raise builder.refuse(node, "it has no running statistics")
        piece = builder.pieces[source]
        wanted = builder.live(self._inside.get(node, node))
        kept = tuple(one for one in piece.channels if one in set(wanted))
        made = []
        if kept:
            part = builder.select(piece, kept, node.name)
            made = [builder.call(str(node.target), cut_norm(norm, kept), part)]
        rest = tuple(one for one in wanted if one not in set(kept))
        joined = self._join(node, made, scale_and_shift(norm)[1], rest)
        builder.piece(node, joined, (*kept, *rest))

    def _linear(self, node: fx.Node, linear: nn.Linear) -> None:
        builder = self._builder
        source = calls.source(node)
        assert source is not None
        piece = builder.pieces[source]
        live = set(builder.live(source))
        inputs = tuple(one for one in piece.channels if one in live)
        made: list[fx.Node] = []
        zeros = linear.weight.new_zeros(linear.out_features)
        bias = linear.bias.detach() if linear.bias is not None else zeros
        everything = tuple(range(linear.out_features))
        if inputs:
            part = builder.select(piece, inputs, node.name)
            made = [builder.call(str(node.target), cut_linear(linear, inputs), part)]
        joined = self._join(node, made, bias, () if made else everything)
        builder.piece(node, joined, everything)

    def _join(
        self, node: fx.Node, parts: list[fx.Node], at_zero: Tensor, rest: tuple[int, ...]
    ) -> fx.Node | None:
        """What was computed, then the constants of the channels that no live input reaches."""
        builder = self._builder
        constants = at_zero[torch.tensor(rest, dtype=torch.long)].clone()
        name = f"{node.target}_constants"
        if not parts:
            assert builder.input is not None
            if not rest:
                return None
            return builder.call(name, Constant(constants, builder.shape(node)[1:]), builder.input)
        joined = parts[0]
        if len(parts) > 1:
            joined = builder.graph.call_function(torch.cat, (parts, 1))
        return (
            builder.call(name, Append(constants, len(builder.shape(node)) + 1), joined)
            if rest
            else joined
        )

    def _norm_after(self, node: fx.Node) -> fx.Node | None:
        """The batch norm that alone reads a convolution, if one does."""
        users = list(node.users)
        if len(users) != 1:
            return None
        module = self._builder.module_of(users[0])
        if isinstance(module, operations.BATCH_NORMS) and module.running_mean is not None:
            return users[0]
        return None


def _is_flat(linear: nn.Linear, given: Piece) -> bool:
    """Whether a linear layer reads (B, C), and is one as torch made it."""
    return operations.is_a(linear, (nn.Linear,)) and len(given.shape) == 1
