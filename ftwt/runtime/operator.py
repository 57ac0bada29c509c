"""A skipping network as one operator of torch, which `torch.compile` puts into its graphs.

Only a call knows which filters run, so the operator is opaque: a compiler learns what its answers
look like, and a FLOP counter what this batch took.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten
from torch.utils.flop_counter import register_flop_formula

from ftwt.runtime.audit import Audit
from ftwt.runtime.program import Other, Value
from ftwt.runtime.runner import filled


class Skips(Protocol):
    """What a network has to offer to be an operator."""

    @property
    def most_macs(self) -> int:
        """MACs of a sample for which every filter runs, gates included."""
        ...

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """Answer a batch."""
        ...

    def audit(self, *inputs: Tensor) -> Audit:
        """Answer a batch and say what it took."""
        ...


@dataclass(frozen=True)
class Operator:
    """A network's number, and how its answer holds the tensors that the operator returns.

    None in `leaves` stands for a tensor.
    """

    number: int
    form: TreeSpec
    leaves: tuple[Any, ...]

    def __call__(self, *inputs: Tensor) -> Any:
        """What the network answers."""
        tensors = iter(torch.ops.ftwt.skip(list(inputs), self.number))
        leaves = [next(tensors) if leaf is None else leaf for leaf in self.leaves]
        return tree_unflatten(leaves, self.form)


_NUMBERS = count()
_NETWORKS: WeakValueDictionary[int, Skips] = WeakValueDictionary()


def operator_of(network: Skips, result: Any) -> Operator | None:
    """A network as an operator; None if it answers with something that is no batch of tensors.

    Args:
        network: lives as long as somebody else holds it.
        result: its program's.
    """
    leaves, form = tree_flatten(filled(result, lambda leaf: leaf))
    if any(isinstance(leaf, Other) for leaf in leaves):
        return None
    kept = tuple(None if isinstance(leaf, Value) else leaf for leaf in leaves)
    return Operator(_numbered(network), form, kept)


def taken_over(operator: Operator | None, network: Skips) -> Operator | None:
    """The operator of a network's copy."""
    return None if operator is None else replace(operator, number=_numbered(network))


def _numbered(network: Skips) -> int:
    number = next(_NUMBERS)
    _NETWORKS[number] = network
    return number


@torch.library.custom_op("ftwt::skip", mutates_args=())
def _skip(inputs: Sequence[Tensor], network: int) -> list[Tensor]:
    return _tensors(_NETWORKS[network].run(inputs), inputs)


@_skip.register_fake
def _(inputs: Sequence[Tensor], network: int) -> list[Tensor]:
    """What answers look like, told from two batches of zeros."""
    batch = inputs[0].shape[0]
    with unset_fake_temporarily():
        one, two = (
            _tensors(_NETWORKS[network].run(zeros), zeros)
            for zeros in ([_zeros(each, size) for each in inputs] for size in (1, 2))
        )
    return [
        inputs[0].new_empty(
            [batch * less if more == 2 * less else less
             for less, more in zip(small.shape, large.shape, strict=True)],
            dtype=small.dtype,
        )
        for small, large in zip(one, two, strict=True)
    ]  # fmt: skip


def _zeros(like: Tensor, batch: int) -> Tensor:
    shape = [int(size) for size in like.shape[1:]]
    return torch.zeros(batch, *shape, dtype=like.dtype, device=like.device)


def _tensors(answer: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The tensors of an answer, none of them an input."""
    given = {one.untyped_storage().data_ptr() for one in inputs}
    found = [one for one in tree_leaves(answer) if isinstance(one, Tensor)]
    return [one.clone() if one.untyped_storage().data_ptr() in given else one for one in found]


def _flops(inputs: Sequence[Tensor], network: int, *, out_val: Any = None) -> int:
    """Two for each multiply-accumulate that was executed, gates included."""
    skipping = _NETWORKS[network]
    if any(isinstance(one, FakeTensor) for one in inputs):
        # Which filters run is known for real inputs alone.
        return 2 * skipping.most_macs * len(inputs[0])
    return 2 * int(skipping.audit(*inputs).macs.sum())


_register: Callable[..., Any] = register_flop_formula(torch.ops.ftwt.skip, get_raw=True)
_register(_flops)
