"""Values while a network is traced: each carries what the example made of it.

What Python has to know at once, such as the length of a list, the truth of a comparison of sizes
or a number for `range`, is taken from the example. The graph then holds a check that it is the
same for every later input, so that a network of another course of events is never answered for.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ftwt.errors import FtwtError


class Valued(fx.Proxy):
    """A node's value in a network that is traced, with the value that the example gave it."""

    # An `ftwt.graph.tracer.Tracer`, which imports this file.
    tracer: Any

    def __getattr__(self, k: str) -> "_Attribute":
        return _Attribute(self, k)

    def __iter__(self) -> Iterator[Any]:
        value = self.tracer.value(self)
        if isinstance(value, Mapping):
            return iter(list(value))
        if not isinstance(value, (Tensor, Sequence)):
            return iter(self.tracer.called(tuple, self))
        getitem = operator.getitem
        return iter([self.tracer.called(getitem, self, place) for place in range(len(self))])

    def __len__(self) -> int:
        value = self.tracer.value(self)
        if isinstance(value, torch.Size):
            # The rank of a tensor does not change with its size.
            return len(value)
        return int(self.tracer.settle(len, self))

    def __bool__(self) -> bool:
        return bool(self.tracer.settle(operator.truth, self))

    def __int__(self) -> int:
        return int(self.tracer.settle(int, self))

    def __float__(self) -> float:
        return float(self.tracer.settle(float, self))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.called(operator.setitem, self, key, value)

    def keys(self) -> Any:
        """The keys of a dictionary, which do not depend on what it holds."""
        value = self.tracer.value(self)
        return list(value) if isinstance(value, Mapping) else super().keys()


class _Attribute(Valued, fx.proxy.Attribute):
    """An attribute of a traced value; a node if it is read, not if it is a method."""


def _in_place(function: Any) -> Any:
    def run(self: Valued, other: Any) -> Any:
        # Numbers and tuples are not changed in place: `x += y` gives them a new value.
        if not isinstance(self.tracer.value(self), (Tensor, list)):
            return NotImplemented
        return self.tracer.called(function, self, other)

    return run


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    setattr(Valued, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))


def settled(value: Any, wanted: Any, place: str) -> None:
    """A check in the graph: what was decided when the network was traced still holds.

    Raises:
        FtwtError: it does not, so that the graph is not this input's.
    """
    if value != wanted:
        raise FtwtError(
            f"forward: {place} came out as {wanted!r} for the example of attach, and is {value!r} "
            "for this input; attach with an example that is like the inputs to come"
        )


def holds_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or holds one."""
    if isinstance(value, Mapping):
        return any(holds_tensor(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(holds_tensor(item) for item in value)
    return isinstance(value, Tensor)


def checks(graph: fx.Graph, values: Mapping[str, Any]) -> frozenset[fx.Node]:
    """The nodes of a graph that nothing but its checks need; `values` are those without tensors."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        only = bool(node.users) and found.issuperset(node.users) and node.name in values
        if node.target is settled or only:
            found.add(node)
    return frozenset(found)
