"""Live channels: which channels of a tensor can be non-zero for a sample.

Each tensor of a traced graph gets an expression over the sites' masks. Where no rule applies,
everything counts as live: unknown is always safe, never wrong.

Operations that only move elements (views, slices, concatenations, padding, shuffles) need no rule
of their own. They are run on a tensor of labels that name the channel each element came from, and
the answer is read off the result.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, fx

from ftwt import operations
from ftwt.tracing import PROBE_BATCH, Traced

Masks: TypeAlias = Mapping[str, Shaped[Tensor, "B _"]]


@dataclass(frozen=True, eq=False)
class All:
    """Every channel is live."""

    width: int


@dataclass(frozen=True, eq=False)
class OfSite:
    """The filters that a site's mask keeps."""

    site: str
    width: int


@dataclass(frozen=True, eq=False)
class Union:
    """Live in any part, as after an addition."""

    parts: tuple["Live", ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.parts[0].width


@dataclass(frozen=True, eq=False)
class Intersection:
    """Live in all parts, as after a multiplication."""

    parts: tuple["Live", ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.parts[0].width


@dataclass(frozen=True, eq=False)
class Concat:
    """The parts' channels one after the other."""

    parts: tuple["Live", ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return sum(part.width for part in self.parts)


@dataclass(frozen=True, eq=False)
class Reorder:
    """Channel i is channel index[i] - 1 of the source; index 0 is a channel of zeros."""

    source: "Live"
    index: tuple[int, ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.index)


Live: TypeAlias = All | OfSite | Union | Intersection | Concat | Reorder


class Evaluator:
    """Evaluates expressions for one batch of masks; each shared part once.

    Masks are bool, or float weights in [0, 1]. A union is then a + b - ab and an intersection ab,
    which are the same on 0 and 1 and let a gradient through.
    """

    def __init__(self, masks: Masks, like: Shaped[Tensor, "B ..."]) -> None:
        self._masks, self._like = masks, like
        # By identity, which expressions compare by.
        self._done: dict[Live, Tensor] = {}

    def __call__(self, live: Live) -> Bool[Tensor, "B C"] | Float[Tensor, "B C"]:
        """Return the live channels of each sample."""
        if live not in self._done:
            self._done[live] = self._evaluate(live)
        return self._done[live]

    def _evaluate(self, live: Live) -> Tensor:
        match live:
            case OfSite():
                return self._masks[live.site]
            case All():
                return self._like.new_ones((self._like.shape[0], live.width))
            case Union():
                return _fold(_either, (self(part) for part in live.parts))
            case Intersection():
                return _fold(_both, (self(part) for part in live.parts))
            case Concat():
                return torch.cat([self(part) for part in live.parts], 1)
            case Reorder():
                padded = torch.nn.functional.pad(self(live.source), (1, 0))
                return padded[:, torch.tensor(live.index, device=padded.device)]


def _either(one: Tensor, two: Tensor) -> Tensor:
    return one | two if one.dtype == torch.bool else one + two - one * two


def _both(one: Tensor, two: Tensor) -> Tensor:
    return one & two if one.dtype == torch.bool else one * two


def _fold(combine: Callable[[Tensor, Tensor], Tensor], tensors: Iterable[Tensor]) -> Tensor:
    first, *rest = tensors
    for tensor in rest:
        first = combine(first, tensor)
    return first


@dataclass(frozen=True, eq=False)
class _Value:
    """What is known of one tensor: None labels mean that dim 1 is the expression's channels."""

    live: Live
    labels: Tensor | None = None


class Liveness:
    """The live channels of every tensor of a graph whose sites' outputs are masked."""

    def __init__(self, traced: Traced, masked: Mapping[str, str]) -> None:
        """`masked` maps the node name of each site's output to the site's name."""
        self._traced = traced
        self._values: dict[str, _Value | tuple[_Value | None, ...] | None] = {}
        self.unknown: dict[str, str] = {}
        for node in traced.graph.nodes:
            value = self._infer(node)
            shape = traced.shape(node)
            if node.name in masked and shape is not None:
                value = _Value(OfSite(masked[node.name], shape[1]))
            self._values[node.name] = value

    def channels(self, node: fx.Node, dim: int = 1) -> Live:
        """Live channels of a node's tensor along `dim`, of as many as the tensor has there."""
        shape = self._traced.shape(node)
        if shape is None:
            raise ValueError(f"{node.name} is not a tensor")
        value = self._values.get(node.name)
        if isinstance(value, _Value):
            if value.labels is None and dim % len(shape) == 1:
                return value.live
            labels = self._labels(value, shape, value.live.width)
            index = _constant_labels(labels.movedim(dim, 1), value.live.width)
            if index is not None:
                return Reorder(value.live, index)
        return All(shape[dim])

    def _infer(self, node: fx.Node) -> _Value | tuple[_Value | None, ...] | None:
        kind = operations.kind_of(node, self._traced.module(node))
        if kind is operations.Kind.MOVE:
            return self._moved(node)
        tensors = [arg for arg in node.all_input_nodes if self._traced.shape(arg) is not None]
        known = [self._single(arg) for arg in tensors]
        source = operations.source(node)
        shape = self._traced.shape(source) if source is not None else None
        if source is not None and shape is not None:
            if kind is operations.Kind.ELEMENTWISE:
                return self._kept(node, source, elementwise=True)
            if kind is operations.Kind.SPATIAL:
                return self._kept(node, source)
            if kind is operations.Kind.REDUCE and operations.reduces_space(node, len(shape)):
                return self._kept(node, source)
        if kind is operations.Kind.UNION:
            operands = operations.operands(node)
            if all(isinstance(arg, fx.Node) and arg in tensors for arg in operands):
                return self._combined(node, tensors, known, union=True)
        if kind is operations.Kind.INTERSECTION:
            return self._combined(node, tensors, known, union=False)
        made = node.name in self._traced.shapes or node.name not in self._traced.values
        if kind is operations.Kind.UNKNOWN and made and any(value is not None for value in known):
            self.unknown[node.name] = operations.describe(node, self._traced.module(node))
        return None

    def _single(self, node: fx.Node) -> _Value | None:
        value = self._values.get(node.name)
        return value if isinstance(value, _Value) else None

    def _kept(self, node: fx.Node, source: fx.Node, *, elementwise: bool = False) -> _Value | None:
        value = self._single(source)
        before, after = self._traced.shape(source), self._traced.shape(node)
        if value is None or before is None or after is None:
            return None
        if value.labels is None:
            return value if before[:2] == after[:2] else None
        return value if elementwise and before == after else None

    def _combined(
        self, node: fx.Node, tensors: list[fx.Node], known: list[_Value | None], *, union: bool
    ) -> _Value | None:
        shape = self._traced.shape(node)
        if shape is None:
            return None
        parts: list[Live] = []
        for source, value in zip(tensors, known, strict=True):
            if value is None:
                if union:
                    return None
                continue
            given = self._traced.shape(source)
            if given is None or value.labels is not None or len(given) != len(shape):
                if union:
                    return None
                continue
            # A single channel that is broadcast over all of them.
            stretched = given[1] == 1 != shape[1]
            live = Reorder(value.live, (1,) * shape[1]) if stretched else value.live
            parts.append(live)
        if not parts:
            return None
        # The same expression is the same object: nothing is compared by value, which would walk
        # deep networks' expressions again and again.
        unique = tuple(dict.fromkeys(parts))
        if len(unique) == 1:
            return _Value(unique[0])
        return _Value(Union(unique) if union else Intersection(unique))

    def _moved(self, node: fx.Node) -> _Value | tuple[_Value | None, ...] | None:
        """Run an operation that only moves elements on labels of where they come from."""
        if node.target is operator.getitem:
            source, item = node.args[0], node.args[1]
            several = self._values.get(source.name) if isinstance(source, fx.Node) else None
            if isinstance(several, tuple) and isinstance(item, int):
                return several[item]
        inputs = [arg for arg in node.all_input_nodes if self._traced.shape(arg) is not None]
        if not any(self._single(arg) for arg in inputs):
            return None
        lives: list[Live] = []
        labels: dict[str, Tensor] = {}
        widths = 0
        total = 0
        for arg in inputs:
            shape = self._traced.shape(arg)
            if shape is None or len(shape) < 2 or shape[0] != PROBE_BATCH:
                return None
            value = self._single(arg) or _Value(All(shape[1]))
            total += value.live.width
            lives.append(value.live)
        for arg, live in zip(inputs, lives, strict=True):
            value = self._single(arg) or _Value(live)
            shape = self._traced.shape(arg)
            assert shape is not None
            own = self._labels(value, shape, total)
            labels[arg.name] = torch.where(own > 0, own + widths, own)
            widths += live.width
        try:
            result = self._run(node, labels)
        except Exception:
            # An operation that does not take labels is just unknown.
            return None
        whole = lives[0] if len(lives) == 1 else Concat(tuple(lives))
        if isinstance(result, (tuple, list)):
            return tuple(_normal(whole, part) for part in result)
        return _normal(whole, result)

    def _labels(self, value: _Value, shape: torch.Size, total: int) -> Tensor:
        """Label 1 + channel + sample * total for each element; 0 means always zero."""
        sample = torch.arange(PROBE_BATCH, dtype=torch.float64).view(-1, *[1] * (len(shape) - 1))
        if value.labels is not None:
            width = value.live.width
            channel = torch.where(value.labels > 0, value.labels - sample * width, value.labels)
            return torch.where(channel > 0, channel + sample * total, channel)
        channel = torch.arange(1, shape[1] + 1, dtype=torch.float64)
        channel = channel.view(1, -1, *[1] * (len(shape) - 2))
        return (channel + sample * total).expand(shape)

    def _run(self, node: fx.Node, labels: Mapping[str, Tensor]) -> Any:
        def fill(arg: fx.Node) -> Any:
            return labels[arg.name] if arg.name in labels else self._traced.values[arg.name]

        args = fx.node.map_arg(node.args, fill)
        kwargs = fx.node.map_arg(node.kwargs, fill)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "call_module":
            module = self._traced.module(node)
            assert module is not None
            return module(*args, **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)


def _normal(live: Live, labels: Tensor) -> _Value | None:
    """Prefer a plain expression over dim 1; give up where samples were mixed."""
    if labels.dim() < 2 or labels.shape[0] != PROBE_BATCH:
        return None
    index = _constant_labels(labels, live.width)
    if index is not None:
        plain = index == tuple(range(1, live.width + 1))
        return _Value(live if plain else Reorder(live, index))
    mine = torch.arange(PROBE_BATCH).view(-1, *[1] * (labels.dim() - 1)) * live.width
    inside = (labels == 0) | ((labels > mine) & (labels <= mine + live.width))
    return _Value(live, labels) if bool(inside.all()) else None


def _constant_labels(labels: Tensor, width: int) -> tuple[int, ...] | None:
    """The channel that each place of dim 1 comes from, if it is one, the same in each sample."""
    flat = labels.reshape(labels.shape[0], labels.shape[1], -1)
    if flat.shape[2] == 0:
        return None
    first = flat[:, :, 0]
    if not bool((flat == first[:, :, None]).all()):
        return None
    sample = torch.arange(labels.shape[0])[:, None] * width
    channel = torch.where(first > 0, first - sample, first)
    same = bool((channel == channel[0]).all()) and bool((channel[0] <= width).all())
    return tuple(int(i) for i in channel[0]) if same and bool((channel[0] >= 0).all()) else None
