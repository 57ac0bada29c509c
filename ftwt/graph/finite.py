"""Where masks may make a tensor infinite: zero times infinity is not a number, nor is it zero.

A network that divides by a feature is finite by itself, but masks make features zero.
"""

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from ftwt.graph import calls
from ftwt.graph.tracing import Traced

_DIVISIONS = {
    operator.truediv, operator.itruediv, operator.floordiv, torch.div, torch.divide,
    torch.true_divide, "div", "div_", "divide", "true_divide",
}  # fmt: skip
# Of one tensor, and infinite at zero.
_POLES = {
    torch.reciprocal, torch.rsqrt, torch.log, torch.log2, torch.log10, "reciprocal", "reciprocal_",
    "rsqrt", "rsqrt_", "log", "log_", "log2", "log10",
}  # fmt: skip
_POWERS = {operator.pow, torch.pow, "pow", "pow_"}
_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_CLAMPS = {torch.clamp, torch.clip, "clamp", "clamp_", "clip", "clip_"}
# Never zero, or as far from zero as what they are given.
_POSITIVE = {
    torch.exp, torch.sigmoid, F.sigmoid, F.softplus, torch.softmax, F.softmax, "exp", "sigmoid",
    "softmax",
}  # fmt: skip
_PASSING = {
    torch.sqrt, torch.mean, torch.square, torch.reshape, torch.flatten, torch.unsqueeze,
    operator.getitem, "sqrt", "mean", "square", "view", "reshape", "flatten", "unsqueeze",
    "expand", "expand_as", "contiguous",
}  # fmt: skip


def may_be_infinite(traced: Traced, masked: Collection[str]) -> frozenset[str]:
    """Names of the nodes that can be infinite, or not a number, where sites are masked.

    `masked` are the nodes whose tensors are masked. A divisor counts as kept from zero if it is
    `... + number`, a clamp from above zero, an exponential or sigmoid, or a root, power, mean or
    view of such.
    """
    after: set[str] = set()
    wild: set[str] = set()
    # What a tensor was made by says nothing of it any more.
    overwritten = {name for names in traced.changed.values() for name in names}
    for node in traced.graph.nodes:
        inputs = [one.name for one in node.all_input_nodes]
        names = (node.name, *traced.changed.get(node.name, ()))
        if node.name in masked or not after.isdisjoint(inputs):
            after.update(names)
        divisor = _divisor(node)
        unsafe = divisor is not None and divisor.name in after
        unsafe = unsafe and not _kept_from_zero(divisor, overwritten)
        if unsafe or not wild.isdisjoint(inputs):
            wild.update(names)
    return frozenset(wild)


def _divisor(node: fx.Node) -> fx.Node | None:
    """What has to differ from zero for an operation to be finite."""
    target = _target(node)
    divisor: Any = None
    if target in _DIVISIONS:
        divisor = calls.argument(node, 1, "other")
    elif target in _POLES:
        divisor = calls.source(node)
    elif target in _POWERS:
        exponent = calls.argument(node, 1, "exponent")
        positive = isinstance(exponent, (int, float)) and exponent > 0
        divisor = None if positive else calls.source(node)
    return divisor if isinstance(divisor, fx.Node) else None


def _kept_from_zero(node: fx.Node | None, overwritten: Collection[str]) -> bool:
    if node is None or node.name in overwritten:
        return False
    target = _target(node)
    if target in _SUMS:
        return any(isinstance(one, (int, float)) and one != 0 for one in calls.operands(node))
    if target in _CLAMPS:
        low = calls.argument(node, 1, "min")
        return isinstance(low, (int, float)) and low > 0
    if target in _POSITIVE:
        return True
    powers = target in _POWERS and isinstance(calls.argument(node, 1, "exponent"), (int, float))
    return bool(target in _PASSING or powers) and _kept_from_zero(calls.source(node), overwritten)


def _target(node: fx.Node) -> Callable[..., Any] | str | None:
    return node.target if node.op in ("call_function", "call_method") else None
