"""What networks answer: tensors in tuples, lists, dictionaries and dataclasses."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def leaves_of(output: Any) -> list[Any]:
    """What is inside of an output, in order; containers of every kind are opened."""
    if isinstance(output, Mapping):
        return [leaf for one in output.values() for leaf in leaves_of(one)]
    if isinstance(output, (list, tuple)):
        return [leaf for one in output for leaf in leaves_of(one)]
    if is_dataclass(output) and not isinstance(output, type):
        return [leaf for one in fields(output) for leaf in leaves_of(getattr(output, one.name))]
    return [output]


def same_kind(one: list[Any], two: list[Any]) -> bool:
    """Whether two lists of leaves have tensors in the same places, and else the same values."""
    return len(one) == len(two) and all(
        isinstance(first, Tensor) == isinstance(second, Tensor)
        and (isinstance(first, Tensor) or first == second)
        for first, second in zip(one, two, strict=True)
    )
