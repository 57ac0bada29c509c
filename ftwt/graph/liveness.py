"""Live channels: which channels of a tensor can be non-zero for a sample.

Each tensor of a traced graph gets an expression over the sites' masks. Where no rule applies,
everything counts as live: unknown is always safe, never wrong.

Operations that only move elements (views, slices, concatenations, padding, shuffles) need no rule
of their own: see `ftwt.graph.moves`.
"""

from collections.abc import Mapping
from typing import Any

from torch import fx

from ftwt.graph import calls, infinities, labels, operations
from ftwt.graph.known import Known, KnownTensor, labels_of, normal, single
from ftwt.graph.live import All, Intersection, Live, OfSite, Reorder, Union
from ftwt.graph.moves import TakesNoLabels, move_labels
from ftwt.graph.operations import Kind
from ftwt.graph.probing import PROBE_BATCH
from ftwt.graph.tracing import Traced

# A reduction over more parts than this counts as all live: its expression would cost too much.
_MOST_PARTS = 16


class Liveness:
    """The live channels of every tensor of a graph whose sites' outputs are masked."""

    def __init__(self, traced: Traced, masked: Mapping[str, str]) -> None:
        """`masked` maps the node name of each site's output to the site's name."""
        self._traced = traced
        self._values: dict[str, Known] = {}
        # By node name: operations without a rule, where something was known of their inputs.
        self.unknown: dict[str, str] = {}
        # Names of nodes that can be infinite, as masks make divisors zero.
        self.infinite = infinities.may_be_infinite(traced, masked)
        for node in traced.graph.nodes:
            value = self._infer(node)
            shape = traced.shape(node)
            for name in traced.changed.get(node.name, ()):
                self._values[name] = self._after_change(name, node, value)
            if node.name in self.infinite:
                # Zero times infinity is no zero, so neither masks nor products make any here.
                value = None
            elif node.name in masked and shape is not None:
                own = OfSite(masked[node.name], shape[1])
                # A depthwise convolution's filter without a bias is silent if its input is.
                if isinstance(value, KnownTensor) and value.labels is None:
                    value = KnownTensor(Intersection((own, value.live)))
                else:
                    value = KnownTensor(own)
            self._values[node.name] = value

    def channels(self, node: fx.Node, dim: int = 1) -> Live:
        """Live channels of a node's tensor along `dim`, of as many as the tensor has there.

        They hold at any time, also after an operation that changes the tensor in place.
        """
        shape = self._traced.shape(node)
        if shape is None:
            raise ValueError(f"{node.name} is not a tensor")
        value = self._values.get(node.name)
        if isinstance(value, KnownTensor):
            if value.labels is None and dim % len(shape) == 1:
                return value.live
            if shape[0] != PROBE_BATCH:
                return All(shape[dim])
            where = labels_of(value, shape)
            index = labels.channel_index(where, value.live.width, dim)
            if index is not None:
                return Reorder(value.live, index)
        return All(shape[dim])

    def _infer(self, node: fx.Node) -> Known:
        module = self._traced.module(node)
        kind = operations.kind_of(node, module)
        if kind is Kind.MOVE:
            try:
                return move_labels(node, self._traced, self._values)
            except TakesNoLabels:
                self._note_unknown(node)
                return None
        tensors = [arg for arg in node.all_input_nodes if self._traced.shape(arg) is not None]
        known = [single(self._values, arg) for arg in tensors]
        source = calls.source_of(node)
        shape = self._traced.shape(source) if source is not None else None
        space = operations.operation_of(node, module).space
        if shape is not None and space is not None and len(shape) != space + 2:
            # Read as one sample whose channels are this batch.
            kind = Kind.UNKNOWN
        if source is not None and shape is not None:
            if kind is Kind.ELEMENTWISE:
                return self._kept(node, source, elementwise=True)
            if kind is Kind.SPATIAL:
                return self._kept(node, source)
            if kind is Kind.REDUCE:
                if calls.reduces_space(node, len(shape)):
                    return self._kept(node, source)
                return self._reduced(node, source)
            if kind is Kind.DEPTHWISE:
                return self._spread(node, source)
        if kind is Kind.UNION:
            rest = [arg for arg in calls.operands(node) if arg not in tensors]
            # Libraries start sums at 0, and leave out an absent branch as 0.
            if all(self._is_zero(arg) for arg in rest):
                return self._united(node, tensors, known)
        if kind is Kind.INTERSECTION:
            return self._intersected(node, tensors, known)
        made = node.name in self._traced.shapes or node.name not in self._traced.values
        told = any(
            isinstance(self._values.get(arg.name), KnownTensor) for arg in node.all_input_nodes
        )
        if kind is Kind.UNKNOWN and made and told:
            self._note_unknown(node)
        return None

    def _note_unknown(self, node: fx.Node) -> None:
        module = self._traced.module(node)
        hook = " with a forward hook" if operations.hooked(module) else ""
        self.unknown[node.name] = operations.describe(node, module) + hook

    def _after_change(self, name: str, node: fx.Node, new: Known) -> Known:
        """What is known of an earlier tensor that `node` changed in place, then and before."""
        old = self._values[name]
        if not isinstance(old, KnownTensor):
            return None
        kind = operations.kind_of(node, self._traced.module(node))
        # Zeros stay, in whichever view of the changed tensor.
        if kind in (Kind.ELEMENTWISE, Kind.INTERSECTION):
            return old
        source = calls.source_of(node)
        mine = source is not None and source.name == name and isinstance(new, KnownTensor)
        if mine and isinstance(new, KnownTensor) and old.labels is None and new.labels is None:
            return KnownTensor(_union([old.live, new.live]))
        return None

    def _is_zero(self, operand: Any) -> bool:
        value = self._traced.values.get(operand.name) if isinstance(operand, fx.Node) else operand
        return isinstance(value, (int, float)) and value == 0

    def _kept(
        self, node: fx.Node, source: fx.Node, *, elementwise: bool = False
    ) -> KnownTensor | None:
        value = single(self._values, source)
        before, after = self._traced.shape(source), self._traced.shape(node)
        if value is None or before is None or after is None:
            return None
        if value.labels is None:
            return value if before[:2] == after[:2] else None
        return value if elementwise and before == after else None

    def _spread(self, node: fx.Node, source: fx.Node) -> KnownTensor | None:
        """A depthwise convolution: each input channel makes as many in a row of the output."""
        value = single(self._values, source)
        before, after = self._traced.shape(source), self._traced.shape(node)
        if value is None or value.labels is not None or before is None or after is None:
            return None
        each = after[1] // before[1]
        if each == 1:
            return value
        return KnownTensor(Reorder(value.live, tuple(1 + i // each for i in range(after[1]))))

    def _reduced(self, node: fx.Node, source: fx.Node) -> KnownTensor | None:
        """A sum over one dimension: live where any of its parts is."""
        value, shape = single(self._values, source), self._traced.shape(source)
        dim, keep = calls.reduced_dimension(node)
        if value is None or shape is None or dim is None or dim % len(shape) == 0:
            return None
        if shape[dim] > _MOST_PARTS or shape[0] != PROBE_BATCH:
            return None
        parts = []
        for part in labels_of(value, shape).unbind(dim):
            one = normal(value.live, part.unsqueeze(dim) if keep else part)
            if one is None or one.labels is not None:
                return None
            parts.append(one.live)
        return KnownTensor(_union(parts))

    def _united(
        self, node: fx.Node, tensors: list[fx.Node], known: list[KnownTensor | None]
    ) -> KnownTensor | None:
        parts = [self._stretched(node, *pair) for pair in zip(tensors, known, strict=True)]
        live = [part for part in parts if part is not None]
        return KnownTensor(_union(live)) if live and len(live) == len(parts) else None

    def _intersected(
        self, node: fx.Node, tensors: list[fx.Node], known: list[KnownTensor | None]
    ) -> KnownTensor | None:
        pairs = list(zip(tensors, known, strict=True))
        parts = [self._stretched(node, *pair) for pair in pairs]
        live = tuple(dict.fromkeys(part for part in parts if part is not None))
        if live:
            return KnownTensor(live[0] if len(live) == 1 else Intersection(live))
        # Not channel by channel, but each factor's zeros stay.
        shape = self._traced.shape(node)
        whole = [value for arg, value in pairs if value and self._traced.shape(arg) == shape]
        return whole[0] if whole else None

    def _stretched(self, node: fx.Node, source: fx.Node, value: KnownTensor | None) -> Live | None:
        """The channels of an operand, as broadcasting spreads them over the result."""
        shape, given = self._traced.shape(node), self._traced.shape(source)
        if value is None or value.labels is not None or shape is None or given is None:
            return None
        if len(given) != len(shape):
            return None
        # A single channel that is broadcast over all of them.
        return Reorder(value.live, (1,) * shape[1]) if given[1] == 1 != shape[1] else value.live


def _union(parts: list[Live]) -> Live:
    # The same expression is the same object: nothing is compared by value, which would walk deep
    # networks' expressions again and again.
    unique = tuple(dict.fromkeys(parts))
    return unique[0] if len(unique) == 1 else Union(unique)
