"""What a forward leaves on its modules: buffers and plain attributes, taken and put back."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# nn.Module's own.
_OWN = frozenset(vars(nn.Module()))
_CONTAINERS = (list, dict, set, deque)


@dataclass(frozen=True)
class Kept:
    """The buffers and plain attributes of all modules of a network, by path, at one moment."""

    buffers: dict[str, Tensor]
    attributes: dict[str, Any]

    def changed(self, later: "Kept") -> tuple[str, ...]:
        """Names of attributes that are others later."""
        names = dict.fromkeys([*self.attributes, *later.attributes])
        missing = object()
        return tuple(
            name
            for name in names
            if not _same(self.attributes.get(name, missing), later.attributes.get(name, missing))
        )


def taken(network: nn.Module) -> Kept:
    """Note what a network's modules hold; copies of buffers, and of what lists hold."""
    buffers = {name: one.detach().clone() for name, one in network.named_buffers()}
    attributes = {
        f"{path}.{name}" if path else name: _copied(value)
        for path, module in network.named_modules()
        for name, value in vars(module).items()
        if name not in _OWN
    }
    return Kept(buffers, attributes)


@torch.no_grad()
def put_back(network: nn.Module, kept: Kept, but: Collection[str] = ()) -> None:
    """Let a network's modules hold what they held; attributes named in `but` stay."""
    for name, buffer in network.named_buffers():
        # What did not change may be of inference mode, where nobody else may write.
        if name not in kept.buffers or buffer.is_meta:
            continue
        if not torch.equal(buffer, kept.buffers[name]):
            buffer.copy_(kept.buffers[name])
    for path, module in network.named_modules():
        for name in list(vars(module)):
            full = f"{path}.{name}" if path else name
            if name in _OWN or full in but:
                continue
            if full not in kept.attributes:
                del module.__dict__[name]
                continue
            old, held = kept.attributes[full], module.__dict__[name]
            if isinstance(held, _CONTAINERS) and type(held) is type(old) and not _same(held, old):
                # The list itself may be held by others.
                held.clear()
                (held.update if isinstance(held, (dict, set)) else held.extend)(old)
            elif not isinstance(old, _CONTAINERS):
                module.__dict__[name] = old


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, _CONTAINERS) else value


def _same(one: Any, two: Any) -> bool:
    """Whether two attributes are the same; what cannot be compared is, if its kind is."""
    if one is two:
        return True
    if type(one) is not type(two):
        return False
    if isinstance(one, Tensor):
        return one.shape == two.shape and one.dtype == two.dtype and _equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, (bool, int, float, str, bytes, set, frozenset, torch.dtype, torch.device)):
        return bool(one == two)
    return True


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.is_meta or bool(torch.equal(one, two))
