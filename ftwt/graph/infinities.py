"""Where masks may make a tensor infinite: zero times infinity is not a number, nor is it zero.

A network that divides by a feature is finite by itself, but masks make features zero.
"""

from collections.abc import Collection

from torch import fx

from ftwt.graph import calls, operations
from ftwt.graph.tracing import Traced


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
        divisor = _divisor(node, traced)
        unsafe = divisor is not None and divisor.name in after
        unsafe = unsafe and not _kept_from_zero(divisor, traced, overwritten)
        if unsafe or not wild.isdisjoint(inputs):
            wild.update(names)
    return frozenset(wild)


def _divisor(node: fx.Node, traced: Traced) -> fx.Node | None:
    """What has to differ from zero for an operation to be finite."""
    module = traced.module(node)
    pole = operations.operation_of(node, module).pole
    divisor = pole(node, module) if pole is not None else None
    return divisor if isinstance(divisor, fx.Node) else None


def _kept_from_zero(node: fx.Node | None, traced: Traced, overwritten: Collection[str]) -> bool:
    if node is None or node.name in overwritten:
        return False
    apart = operations.operation_of(node, traced.module(node)).apart
    if apart is None:
        return False
    kept = apart(node)
    return _kept_from_zero(calls.source_of(node), traced, overwritten) if kept is None else kept
