"""The one table of operations, and which row a node of a graph is."""

from ftwt.graph.operations.kinds import Activation, Kind, Operation, Role
from ftwt.graph.operations.match import (
    BATCH_NORMS,
    computes_as,
    describe,
    has_twin,
    hooked,
    is_a,
    is_activation,
    is_call,
    is_item,
    is_padding,
    kind_of,
    operation_of,
    table_row,
    target_of,
    type_of,
)
from ftwt.graph.operations.table import OUT_OF_PLACE, TABLE, timm_layers, torchvision_operations

__all__ = [
    "BATCH_NORMS",
    "OUT_OF_PLACE",
    "TABLE",
    "Activation",
    "Kind",
    "Operation",
    "Role",
    "computes_as",
    "describe",
    "has_twin",
    "hooked",
    "is_a",
    "is_activation",
    "is_call",
    "is_item",
    "is_padding",
    "kind_of",
    "operation_of",
    "table_row",
    "target_of",
    "timm_layers",
    "torchvision_operations",
    "type_of",
]  # fmt: skip
