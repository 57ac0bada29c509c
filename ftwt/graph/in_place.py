"""Additions and their like in place, which the analysis would rather see make new tensors."""

from collections.abc import Mapping
from operator import add, iadd, imul, isub, itruediv, mul, sub, truediv
from typing import Any

import torch
from torch import Tensor, fx

# What `x += y` and its like do, and what makes the same as a new tensor.
IN_PLACE = {iadd: add, isub: sub, imul: mul, itruediv: truediv}


def separate(graph: fx.Graph, values: Mapping[fx.Node, Any]) -> None:
    """Let `x += y` make a new tensor where nobody reads what was there before.

    The analysis then need not know that both are one.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    holders: dict[Any, list[fx.Node]] = {}
    for node, value in values.items():
        for storage in set(_storages(value)):
            holders.setdefault(storage, []).append(node)
    for node in graph.nodes:
        if node.target not in IN_PLACE:
            continue
        before, other = node.args
        value = values[before]
        aliases = [one for name in _storages(value) for one in holders[name] if one is not node]
        read = any(
            one.op == "get_attr" or any(order[user] > order[node] for user in one.users)
            for one in aliases
            if order[one] < order[node]
        )
        given = values[other] if isinstance(other, fx.Node) else other
        if not read and isinstance(value, Tensor) and _fits(value, given):
            node.target = IN_PLACE[node.target]


def _storages(value: Any) -> list[Any]:
    """Where the elements of a value's tensors lie."""
    if isinstance(value, (list, tuple)):
        return [storage for one in value for storage in _storages(one)]
    return [value.untyped_storage()._cdata] if isinstance(value, Tensor) else []


def _fits(value: Tensor, other: Any) -> bool:
    """Whether a new tensor of both would be of the first one's type and shape."""
    if not isinstance(other, Tensor):
        return torch.result_type(value, other) == value.dtype
    wide = value.dim() >= other.dim() and all(
        two in (1, one) for one, two in zip(value.shape[::-1], other.shape[::-1], strict=False)
    )
    return wide and torch.result_type(value, other) == value.dtype
