"""Counting products of matrices and convolutions, as torch's own counter does."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation of torch that runs inside of it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To have the compiler skip what watches, torch imports it first, which takes a second.
        return False


class Products(Watching):
    """Adds up the MACs of what runs inside of it, by torch's table of operations.

    `torch.utils.flop_counter.FlopCounterMode` hooks modules, too, and fails without gradients on
    views of parameters that enter a module.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count it."""
        named = dict(kwargs or {})
        rule: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if rule is None and func is not torch.ops.prim.device.default:
            with self:
                made = func.decompose(*args, **named)
            if made is not NotImplemented:
                return made
        result = func(*args, **named)
        if rule is not None:
            # torch counts a product and a sum apart.
            self.macs += rule(*args, **named, out_val=result) // 2
        return result
