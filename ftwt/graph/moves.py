"""Operations that only move elements: run on labels of where each element comes from."""

import operator
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from ftwt.graph import labels
from ftwt.graph.known import Known, KnownTensor, labels_of, normal, single
from ftwt.graph.live import All, Concatenation
from ftwt.graph.probing import PROBE_BATCH
from ftwt.graph.tracing import Traced


class TakesNoLabels(Exception):
    """The operation does not run on labels; what stopped it is in `__cause__`."""


def move_labels(node: fx.Node, traced: Traced, values: Mapping[str, Known]) -> Known:
    """Run an operation that only moves elements on labels of where they come from."""
    if node.target is operator.getitem:
        source, item = node.args[0], node.args[1]
        several = values.get(source.name) if isinstance(source, fx.Node) else None
        if isinstance(several, tuple) and isinstance(item, int):
            return several[item]
    inputs = [arg for arg in node.all_input_nodes if traced.shape(arg) is not None]
    if not any(single(values, arg) for arg in inputs):
        return None
    sources: dict[str, tuple[KnownTensor, Any]] = {}
    for arg in inputs:
        shape = traced.shape(arg)
        if shape is None or len(shape) < 2 or shape[0] != PROBE_BATCH:
            return None
        sources[arg.name] = single(values, arg) or KnownTensor(All(shape[1])), shape
    lives = tuple(value.live for value, _ in sources.values())
    whole = lives[0] if len(lives) == 1 else Concatenation(lives)
    given: dict[str, Tensor] = {}
    shift = 0
    for name, (value, shape) in sources.items():
        own = value.live.width
        given[name] = labels.rebased(labels_of(value, shape), own, whole.width, shift)
        shift += own
    try:
        result = _run(node, traced, given)
    except Exception as error:
        raise TakesNoLabels from error
    if isinstance(result, (tuple, list)):
        return tuple(normal(whole, part) for part in result)
    return normal(whole, result)


def _run(node: fx.Node, traced: Traced, given: Mapping[str, Tensor]) -> Any:
    def fill(arg: fx.Node) -> Any:
        return given[arg.name] if arg.name in given else traced.values[arg.name]

    args = fx.node.map_arg(node.args, fill)
    kwargs = fx.node.map_arg(node.kwargs, fill)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "call_module":
        module = traced.module(node)
        assert module is not None
        return module(*args, **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)
