"""Batches of two tensors, images and what is wanted of them, as most tasks have them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.training.tasks.located import Where, check_where, located


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


class OfTensors:
    """What tasks of such batches have in common; `logits` says where an output holds the answer."""

    logits: Where

    def __post_init__(self) -> None:
        check_where(type(self).__name__, self.logits)

    def pair(self, batch: Any, called: str) -> tuple[Tensor, Tensor]:
        """Images and what is wanted."""
        return tensors(batch, called)

    def ask(self, network: nn.Module, inputs: Any, wanted: Any) -> Any:
        """What the network returns."""
        return network(inputs)

    def answer(self, output: Any) -> Any:
        """What `logits` says of the output."""
        return located(type(self).__name__, output, self.logits)


def moved(value: Any, device: torch.device) -> Any:
    """Tensors, and those in lists and mappings, on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: moved(one, device) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [moved(one, device) for one in value]
    return value
