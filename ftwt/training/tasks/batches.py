"""Batches of two tensors, as most tasks have them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ftwt.errors import FtwtError


def tensors(batch: Any, called: str) -> tuple[Tensor, Tensor]:
    """A batch of two tensors.

    Raises:
        FtwtError: it is something else.
    """
    if (
        isinstance(batch, (tuple, list))
        and len(batch) == 2
        and all(isinstance(part, Tensor) for part in batch)
    ):
        return batch[0], batch[1]
    parts = batch if isinstance(batch, (tuple, list)) else [batch]
    came = ", ".join(type(part).__name__ for part in parts)
    raise FtwtError(
        f"{called}: the loader gave ({came}), expected (images, labels), two tensors; "
        "wrap the loader in a generator or dataset that gives them, or give the task= that "
        "its batches are of"
    )


def moved(value: Any, device: torch.device) -> Any:
    """Tensors, and those in lists and mappings, on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: moved(one, device) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [moved(one, device) for one in value]
    return value
