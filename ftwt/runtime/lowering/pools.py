"""Which pooling a node of a traced graph is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import fx, nn

from ftwt.graph import calls, operations
from ftwt.graph.operations import Role
from ftwt.runtime.lowering.recognise import Read, pair
from ftwt.runtime.program import Pool

_WINDOWED: Mapping[Role | None, Literal["max", "mean"]] = {
    Role.MAX_POOL: "max", Role.MEAN_POOL: "mean",
}  # fmt: skip
_ADAPTIVE: Mapping[Role | None, Literal["max", "mean"]] = {
    Role.ADAPTIVE_MAX: "max", Role.ADAPTIVE_MEAN: "mean",
}  # fmt: skip


def pooling(
    node: fx.Node, module: nn.Module | None, read: Read, shapes: tuple[torch.Size, torch.Size]
) -> Pool | Literal["whole"] | None:
    """The pooling that a node is; "whole" is the mean over all of space."""
    before, after = shapes
    if len(before) != 4:
        return None
    role = operations.operation_of(node, module).role
    if role is Role.MEAN:
        whole = _reduces_all_space(node) and "dtype" not in node.kwargs
        return "whole" if whole else None
    found = _adaptive(role, before, after) or _windowed(node, module, role, read)
    if found is None or found == "whole":
        return found
    size = (before[2], before[3])
    space = zip(size, found.kernel, found.stride, found.padding, strict=True)
    last = [(side + 2 * pad - kernel, stride) for side, kernel, stride, pad in space]
    if tuple(after[2:]) == tuple(over // stride + 1 for over, stride in last):
        return replace(found, ceil_mode=False)
    # Rounded up, which torch did so that each window begins inside.
    return found if found.ceil_mode else None


def _windowed(
    node: fx.Node, module: nn.Module | None, role: Role | None, read: Read
) -> Pool | None:
    kind = _WINDOWED.get(role)
    if kind is None:
        return None
    extra = ("dilation", "ceil_mode") if kind == "max" else ("ceil_mode", "count_include_pad")
    names = ("kernel_size", "stride", "padding", *extra)

    def setting(place: int, name: str, default: Any) -> Any:
        return read(calls.setting(node, module, place, name, default=default))

    kernel, stride, padding, *_ = (
        setting(place, name, None) for place, name in enumerate(names[:3], start=1)
    )
    window = pair(kernel)
    step = pair(stride) if stride not in (None, ()) else window
    around = pair(padding if padding is not None else 0)
    if window is None or step is None or around is None:
        return None
    if kind == "max":
        returns = setting(6, "return_indices", False)
        if returns or pair(setting(4, "dilation", 1)) != (1, 1):
            return None
        return Pool("max", window, step, around, bool(setting(5, "ceil_mode", False)))
    counted = setting(5, "count_include_pad", True) or around == (0, 0)
    if not counted or setting(6, "divisor_override", None) is not None:
        return None
    return Pool("mean", window, step, around)


def _adaptive(
    role: Role | None, before: torch.Size, after: torch.Size
) -> Pool | Literal["whole"] | None:
    kind = _ADAPTIVE.get(role)
    if kind is None or len(after) != 4:
        return None
    if kind == "mean" and after[2:] == (1, 1):
        return "whole"
    if before[2] % after[2] or before[3] % after[3]:
        return None
    window = (before[2] // after[2], before[3] // after[3])
    return Pool(kind, window, window)


def _reduces_all_space(node: fx.Node) -> bool:
    dims = calls.dimensions(node)
    return all(isinstance(one, int) for one in dims) and {one % 4 for one in dims} == {2, 3}
