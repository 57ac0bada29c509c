"""What a node of a graph calls its operation with."""

from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.nn import functional as F


def source_of(node: fx.Node) -> fx.Node | None:
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


def setting(
    node: fx.Node, module: nn.Module | None, place: int, *names: str, default: Any = None
) -> Any:
    """What an operation is told: a module by its attributes, a function by its arguments."""
    if module is None:
        return argument(node, place, *names, default=default)
    held = (getattr(module, name) for name in names if hasattr(module, name))
    return next(held, default)


def dimensions(node: fx.Node) -> tuple[Any, ...]:
    """The dimensions that a reduction names; none at all are all of them."""
    dims = argument(node, 1, "dim", "axis")
    return tuple(dims) if isinstance(dims, (list, tuple)) else (dims,)


def reduces_space(node: fx.Node, rank: int) -> bool:
    """Whether a reduction of a tensor of `rank` dimensions leaves batch and channels alone."""
    dims = dimensions(node)
    return bool(dims) and all(isinstance(dim, int) and dim % rank >= 2 for dim in dims)


def reduced_dimension(node: fx.Node) -> tuple[int | None, bool]:
    """The one dimension that a reduction is over, if it is one, and whether it is kept."""
    dims = dimensions(node)
    only = dims[0] if len(dims) == 1 and isinstance(dims[0], int) else None
    return only, bool(argument(node, 2, "keepdim", "keepdims", default=False))


# Conditions of a table of operations, on a node and the module that it calls.


def divides_by_number(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether zero stays zero: divided by a tensor it need not, as 0 / 0 is not a number."""
    divisor = argument(node, 1, "other")
    return isinstance(divisor, (int, float)) and divisor != 0 and source_of(node) is not None


def finite_factors(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether what is written as a factor is finite: zero times infinity is no zero."""
    numbers = [one for one in operands(node) if isinstance(one, (int, float))]
    return all(abs(one) < float("inf") for one in numbers)


def positive_power(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a power is one of zero that is zero."""
    exponent = argument(node, 1, "exponent")
    return isinstance(exponent, (int, float)) and exponent > 0 and source_of(node) is not None


def zero_in_range(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a clamp leaves zero alone."""
    low = setting(node, module, 1, "min", "min_val")
    high = setting(node, module, 2, "max", "max_val")
    if node.target in (F.hardtanh, F.hardtanh_):
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    bounds = [one for one in (low, high) if one is not None]
    if not all(isinstance(one, (int, float)) for one in bounds):
        return False
    return (low is None or low <= 0) and (high is None or high >= 0)


def zero_below(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a threshold leaves zero alone or puts zero in its place."""
    value, threshold = setting(node, module, 2, "value"), setting(node, module, 1, "threshold")
    numbers = all(isinstance(one, (int, float)) for one in (value, threshold))
    return numbers and bool(value == 0 or threshold < 0)


def pads_zeros(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether padding adds nothing but zeros, or what is there already."""
    mode = setting(node, module, 2, "mode", default="constant")
    value = setting(node, module, 3, "value")
    return bool(mode != "constant" or value in (None, 0, 0.0))


def positive(place: int, *names: str, default: float) -> Callable[..., bool]:
    """The condition that a number which keeps a divisor from zero, or is a norm's, is positive."""

    def holds(node: fx.Node, module: nn.Module | None) -> bool:
        numbers = [setting(node, module, place, *names, default=default)]
        return all(one is None or (isinstance(one, (int, float)) and one > 0) for one in numbers)

    return holds


def both(*conditions: Callable[..., bool]) -> Callable[..., bool]:
    """All of several conditions."""
    return lambda node, module: all(one(node, module) for one in conditions)


def silent_depthwise(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a convolution makes each channel of one input channel, without a bias."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(module, conv) and module.groups == module.in_channels and module.bias is None


# What has to differ from zero for an operation to be finite.


def divisor(node: fx.Node, module: nn.Module | None) -> Any:
    """What a division divides by."""
    return argument(node, 1, "other")


def itself(node: fx.Node, module: nn.Module | None) -> Any:
    """The operand, of what is infinite at zero."""
    return source_of(node)


def base(node: fx.Node, module: nn.Module | None) -> Any:
    """The base of a power whose exponent may be negative."""
    return None if positive_power(node, module) else source_of(node)


def itself_unless(condition: Callable[..., bool]) -> Callable[..., Any]:
    """The operand of a norm, unless something is added to what it divides by."""
    return lambda node, module: None if condition(node, module) else source_of(node)


# Whether a result is kept from zero; None if as far as the operand is.


def always(node: fx.Node) -> bool | None:
    """It is never zero."""
    return True


def passes_zeros(node: fx.Node) -> bool | None:
    """It is zero where the operand is."""
    return None


def adds_number(node: fx.Node) -> bool | None:
    """A number is added, which counts as enough."""
    return any(isinstance(one, (int, float)) and one != 0 for one in operands(node))


def clamped_above_zero(node: fx.Node) -> bool | None:
    """The lower bound is positive."""
    low = argument(node, 1, "min")
    return isinstance(low, (int, float)) and low > 0


def numbered_power(node: fx.Node) -> bool | None:
    """A power with a number as exponent is zero where its base is, if at all."""
    return None if isinstance(argument(node, 1, "exponent"), (int, float)) else False
