"""Following operations that only move elements, to say what a chain of them comes to.

Each element of the tensor where the chain starts gets a number; the operations are run on the
numbers, and what they did is read off the result. A channel shuffle of views and transpositions is
then one `Pick`, and a flattening is seen as such.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ftwt.graph.probing import PROBE_BATCH
from ftwt.runtime.program import Pair, Value


@dataclass(frozen=True)
class Moved:
    """Where the elements of a tensor come from: 1 + place in the source's probe batch, 0 none."""

    source: Value
    places: Tensor

    @property
    def same(self) -> bool:
        """Whether it is the source, shape and all."""
        return tuple(self.places.shape[1:]) == self.source.shape and self.flat

    @property
    def flat(self) -> bool:
        """Whether it is the source in its order, in whatever shape."""
        flat = self.places.reshape(-1)
        start = start_of(self.source)
        return len(flat) == start.places.numel() and torch.equal(flat, start.places.reshape(-1))

    def pick(self) -> tuple[tuple[int, ...], Pair] | None:
        """Channels and stride, if each channel is one of the source's or zero.

        One position may be a vector or a map of one.
        """
        places, source = self.places, start_of(self.source).places
        if not {places.dim(), source.dim()} <= {2, 4} or not places.numel():
            return None
        if places.dim() == 2:
            places = places[:, :, None, None]
        if source.dim() == 2:
            source = source[:, :, None, None]
        elif self.places.dim() == 2 and source.shape[2:] != (1, 1):
            return None
        stride = tuple(_stride(places, source, dim) for dim in (2, 3))
        picked = source[:, :, :: stride[0], :: stride[1]]
        if len(places) != PROBE_BATCH or picked.shape[2:] != places.shape[2:]:
            return None
        per_channel = source[0, 0].numel()
        first = places[0].amax((1, 2))
        channel = torch.where(first > 0, (first - 1).div(per_channel, rounding_mode="floor") + 1, 0)
        index = channel.long()
        if int(index.max()) > source.shape[1]:
            return None
        padded = torch.cat([torch.zeros_like(picked[:, :1]), picked], 1)
        if not torch.equal(padded[:, index], places):
            return None
        return tuple(index.tolist()), (stride[0], stride[1])


def start_of(source: Value) -> Moved:
    """A tensor before anything moved."""
    shape = (PROBE_BATCH, *source.shape)
    count = torch.Size(shape).numel()
    return Moved(source, torch.arange(1, count + 1, dtype=torch.float64).view(shape))


def follow(
    node: fx.Node,
    run: Callable[..., Any],
    given: Mapping[fx.Node, Moved],
    rest: Callable[[fx.Node], Any],
) -> Any:
    """Run a node on places: `Moved`, a tuple of them, or None if it does not take them.

    `rest` gives what the probe batch showed of arguments that are no tensors.
    """
    if len({moved.source for moved in given.values()}) != 1:
        return None
    source = next(iter(given.values())).source

    def fill(arg: fx.Node) -> Any:
        return given[arg].places if arg in given else rest(arg)

    try:
        result = run(*fx.node.map_arg(node.args, fill), **fx.node.map_arg(node.kwargs, fill))
    except Exception:
        # It does not take numbers: then nobody looks for a simpler form of it.
        return None
    if isinstance(result, (tuple, list)):
        return tuple(Moved(source, one) for one in result if isinstance(one, Tensor))
    return Moved(source, result) if isinstance(result, Tensor) else None


def item(node: fx.Node, several: Any) -> Moved | None:
    """One of several results."""
    place = node.args[1] if node.target is operator.getitem else None
    return several[place] if isinstance(place, int) and isinstance(several, tuple) else None


def _stride(places: Tensor, source: Tensor, dim: int) -> int:
    """How far apart in the source neighbours along `dim` are."""
    if places.shape[dim] < 2:
        return max(1, source.shape[dim])
    live = (places > 0).flatten(2).any(2).nonzero()
    if not len(live):
        return max(1, -(-source.shape[dim] // places.shape[dim]))
    sample, channel = live[0].tolist()
    line = places[sample, channel].movedim(dim - 2, 0)[:, 0]
    per_step = source.shape[3] if dim == 2 else 1
    return max(1, int(line[1] - line[0]) // per_step)
