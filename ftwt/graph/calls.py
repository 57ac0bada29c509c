"""What a node of a graph calls its operation with."""

from typing import Any

from torch import fx
from torch.nn import functional as F


def source(node: fx.Node) -> fx.Node | None:
    """The tensor that an operation of one tensor works on."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    return first if isinstance(first, fx.Node) else None


def operands(node: fx.Node) -> tuple[Any, ...]:
    """The two sides of a binary operation."""
    named = [node.kwargs[name] for name in ("input", "other") if name in node.kwargs]
    return (*node.args[:2], *named)


def argument(node: fx.Node, place: int, *names: str, default: Any = None) -> Any:
    """An argument given by place or by one of its names."""
    if len(node.args) > place:
        return node.args[place]
    return next((node.kwargs[name] for name in names if name in node.kwargs), default)


def reduces_space(node: fx.Node, rank: int) -> bool:
    """Whether a reduction of a tensor of `rank` dimensions leaves batch and channels alone."""
    dims = argument(node, 1, "dim", "axis")
    listed: list[Any] = list(dims) if isinstance(dims, (list, tuple)) else [dims]
    return all(isinstance(dim, int) and dim % rank >= 2 for dim in listed)


def reduced_dimension(node: fx.Node) -> tuple[int | None, bool]:
    """The one dimension that a reduction is over, if it is one, and whether it is kept."""
    dims = argument(node, 1, "dim", "axis")
    listed: list[Any] = list(dims) if isinstance(dims, (list, tuple)) else [dims]
    only = listed[0] if len(listed) == 1 and isinstance(listed[0], int) else None
    return only, bool(argument(node, 2, "keepdim", "keepdims", default=False))


def divides_by_number(node: fx.Node) -> bool:
    """Whether zero stays zero: divided by a tensor it need not, as 0 / 0 is not a number."""
    divisor = argument(node, 1, "other")
    return isinstance(divisor, (int, float)) and divisor != 0 and source(node) is not None


def positive_power(node: fx.Node) -> bool:
    """Whether a power is one of zero that is zero."""
    exponent = argument(node, 1, "exponent")
    return isinstance(exponent, (int, float)) and exponent > 0 and source(node) is not None


def zero_in_range(node: fx.Node) -> bool:
    """Whether a clamp leaves zero alone."""
    low, high = argument(node, 1, "min", "min_val"), argument(node, 2, "max", "max_val")
    if node.target in (F.hardtanh, F.hardtanh_):
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    bounds = [one for one in (low, high) if one is not None]
    if not all(isinstance(one, (int, float)) for one in bounds):
        return False
    return (low is None or low <= 0) and (high is None or high >= 0)


def pads_zeros(node: fx.Node) -> bool:
    """Whether padding adds nothing but zeros, or what is there already."""
    mode = argument(node, 2, "mode", default="constant")
    value = argument(node, 3, "value")
    return bool(mode != "constant" or value in (None, 0, 0.0))
