"""Which pooling a node of a traced graph is."""

from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

from ftwt.graph import calls
from ftwt.runtime.lowering.recognise import Read, pair, plain, target_of
from ftwt.runtime.program import Pool

_POOL_MODULES = {nn.MaxPool2d: "max", nn.AvgPool2d: "mean"}
_POOL_CALLS = {F.max_pool2d: "max", torch.max_pool2d: "max", F.avg_pool2d: "mean"}
_ADAPTIVE_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_ADAPTIVE = {
    nn.AdaptiveAvgPool2d: "mean", nn.AdaptiveMaxPool2d: "max",
    F.adaptive_avg_pool2d: "mean", F.adaptive_max_pool2d: "max",
}  # fmt: skip
_MEANS = {torch.mean, "mean"}


def pooling(
    node: fx.Node, module: nn.Module | None, read: Read, shapes: tuple[torch.Size, torch.Size]
) -> Pool | Literal["whole"] | None:
    """The pooling that a node is; "whole" is the mean over all of space."""
    before, after = shapes
    if len(before) != 4:
        return None
    if target_of(node) in _MEANS:
        whole = _reduces_all_space(node) and "dtype" not in node.kwargs
        return "whole" if whole else None
    found = _adaptive(node, module, before, after) or _windowed(node, module, read)
    if found is None or found == "whole":
        return found
    size = (before[2], before[3])
    fits = tuple(
        (side + 2 * pad - kernel) // stride + 1
        for side, kernel, stride, pad in zip(
            size, found.kernel, found.stride, found.padding, strict=True
        )
    )
    return found if fits == tuple(after[2:]) else None


def _windowed(node: fx.Node, module: nn.Module | None, read: Read) -> Pool | None:
    kinds: list[str] = [kind for one, kind in _POOL_MODULES.items() if plain(module, one)]
    if module is None and target_of(node) in _POOL_CALLS:
        kinds = [_POOL_CALLS[target_of(node)]]
    if not kinds:
        return None
    kind = kinds[0]
    extra = ("dilation", "ceil_mode") if kind == "max" else ("ceil_mode", "count_include_pad")
    names = ("kernel_size", "stride", "padding", *extra)

    def setting(place: int, name: str, default: Any) -> Any:
        if module is not None:
            return getattr(module, name, default)
        return read(calls.argument(node, place, name, default=default))

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
        return Pool("max", window, step, around)
    counted = setting(5, "count_include_pad", True) or around == (0, 0)
    if not counted or setting(6, "divisor_override", None) is not None:
        return None
    return Pool("mean", window, step, around)


def _adaptive(
    node: fx.Node, module: nn.Module | None, before: torch.Size, after: torch.Size
) -> Pool | Literal["whole"] | None:
    called = next((one for one in _ADAPTIVE_MODULES if plain(module, one)), target_of(node))
    kind = _ADAPTIVE.get(called)
    if kind is None or len(after) != 4:
        return None
    if kind == "mean" and after[2:] == (1, 1):
        return "whole"
    if before[2] % after[2] or before[3] % after[3]:
        return None
    window = (before[2] // after[2], before[3] // after[3])
    return Pool("max" if kind == "max" else "mean", window, window)


def _reduces_all_space(node: fx.Node) -> bool:
    dims = calls.argument(node, 1, "dim", "axis")
    listed = list(dims) if isinstance(dims, (list, tuple)) else [dims]
    if not all(isinstance(one, int) for one in listed):
        return False
    return {int(one) % 4 for one in listed} == {2, 3}
