"""Which row of the table a node is: the one place where modules are told apart."""

import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional as F

from ftwt.graph.operations.kinds import Kind, Operation
from ftwt.graph.operations.table import OUT_OF_PLACE, TABLE, foreign

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

_UNKNOWN, _FRESH = Operation(Kind.UNKNOWN), Operation(Kind.FRESH)


def operation_of(node: fx.Node, module: nn.Module | None) -> Operation:
    """What is known of the operation that `node` calls.

    Nothing is known of a module with forward hooks, which may change what it reads and answers,
    except that what it answers may be anything.
    """
    if node.op not in ("call_module", "call_function", "call_method"):
        return _FRESH
    found = table_row(node, module)
    if found is None:
        # Other libraries' batch norms may have an activation inside; nothing is claimed of them.
        return _FRESH if isinstance(module, BATCH_NORMS) else _UNKNOWN
    if hooked(module):
        return _FRESH if found.kind is Kind.FRESH else _UNKNOWN
    return found


def kind_of(node: fx.Node, module: nn.Module | None) -> Kind:
    """How zeros pass through the operation that `node` calls."""
    found = operation_of(node, module)
    return found.kind if found.when is None or found.when(node, module) else found.otherwise


def table_row(node: fx.Node, module: nn.Module | None) -> Operation | None:
    """The row of what a node calls, forward hooks or not."""
    if node.op == "call_module":
        target: Any = type_of(module)
    else:
        target = target_of(node)
    return None if target is None else TABLE.get(target) or foreign().get(target)


def type_of(module: nn.Module | None) -> type[nn.Module] | None:
    """The type of the table whose forward a module runs; a subclass may have one of its own."""
    if module is None:
        return None
    others = foreign()
    for one in type(module).__mro__:
        if one in TABLE or one in others:
            return one if _runs_as(module, one) else None
    return None


def is_a(module: nn.Module | None, types: tuple[type[nn.Module], ...]) -> bool:
    """Whether a module does what one of `types` does; a subclass may have a forward of its own."""
    return any(isinstance(module, one) and _runs_as(module, one) for one in types)


def computes_as(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Whether a module computes what `kind` does, no subclass's own affair and no hooks."""
    return is_a(module, (kind,)) and not hooked(module)


def _runs_as(module: nn.Module, known: type[nn.Module]) -> bool:
    kind = type(module)
    same = all(
        getattr(kind, name, None) is getattr(known, name, None)
        for name in ("__call__", "forward", "_conv_forward")
    )
    return same and "forward" not in vars(module)


def hooked(module: nn.Module | None) -> bool:
    """Whether a module has forward hooks, which may change what it reads and answers."""
    return module is not None and bool(module._forward_hooks or module._forward_pre_hooks)


def is_activation(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is an elementwise activation, of whichever value at zero."""
    found = table_row(node, module)
    return found is not None and found.activates


def is_call(node: fx.Node, module: nn.Module | None, types: tuple[type[nn.Module], ...],
            functions: set[Callable[..., Any]]) -> bool:  # fmt: skip
    """Whether a node calls a module of one of `types`, or one of `functions`."""
    if node.op == "call_module":
        return is_a(module, types)
    return node.op == "call_function" and node.target in functions


def has_twin(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether an operation in place is known as one that makes a new tensor, too."""
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") and hasattr(Tensor, name[:-1])
    if node.op == "call_module":
        return hasattr(module, "inplace")
    return node.target in OUT_OF_PLACE or bool(node.kwargs.get("inplace"))


def is_padding(node: fx.Node) -> bool:
    """Whether a node pads by a function."""
    return node.op == "call_function" and node.target is F.pad


def is_item(node: fx.Node) -> bool:
    """Whether a node takes an item or a slice."""
    return node.op == "call_function" and node.target is operator.getitem


def target_of(node: fx.Node) -> Any:
    """The function of a call, or the name of a method."""
    return node.target if node.op in ("call_function", "call_method") else None


def describe(node: fx.Node, module: nn.Module | None) -> str:
    """The operation of a node, for a reader."""
    if module is not None:
        return type(module).__name__
    return getattr(node.target, "__name__", str(node.target))
