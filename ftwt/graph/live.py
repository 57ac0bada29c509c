"""Expressions for the live channels of a tensor, and their values for a batch of masks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Shaped
from torch import Tensor

# By site, (R, C): a row for each sample, or several where a network makes several of one.
Masks: TypeAlias = Mapping[str, Shaped[Tensor, "_ _"]]


@dataclass(frozen=True, eq=False)
class All:
    """Every channel is live."""

    width: int


@dataclass(frozen=True, eq=False)
class OfSite:
    """The filters that a site's mask keeps."""

    site: str
    width: int


@dataclass(frozen=True, eq=False)
class Union:
    """Live in any part, as after an addition."""

    parts: tuple["Live", ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.parts[0].width


@dataclass(frozen=True, eq=False)
class Intersection:
    """Live in all parts, as after a multiplication."""

    parts: tuple["Live", ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.parts[0].width


@dataclass(frozen=True, eq=False)
class Concatenation:
    """The parts' channels one after the other."""

    parts: tuple["Live", ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return sum(part.width for part in self.parts)


@dataclass(frozen=True, eq=False)
class Reorder:
    """Channel i is channel index[i] - 1 of the source; index 0 is a channel of zeros."""

    source: "Live"
    index: tuple[int, ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.index)


Live: TypeAlias = All | OfSite | Union | Intersection | Concatenation | Reorder


def sites_in(live: Live) -> set[str]:
    """The sites whose masks an expression reads."""
    match live:
        case All():
            return set()
        case OfSite():
            return {live.site}
        case Reorder():
            return sites_in(live.source)
        case _:
            return set().union(*map(sites_in, live.parts))


class Evaluator:
    """Evaluates expressions for one batch of masks; each shared part once.

    Masks are bool, or float weights in [0, 1]. A union is then a + b - ab and an intersection ab,
    which are the same on 0 and 1 and let a gradient through.

    Integers are strengths, 0 to `top`: of `top` settings, each of which keeps all that the one
    before keeps, the number that keep a channel. A union is then a maximum, an intersection a
    minimum, and what is always live has strength `top`; `top=1` is a mask.
    """

    def __init__(self, masks: Masks, like: Shaped[Tensor, "B ..."], top: int = 1) -> None:
        self._masks, self._like, self._top = masks, like, top
        # By identity, which expressions compare by.
        self._done: dict[Live, Tensor] = {}

    def __call__(self, live: Live) -> Shaped[Tensor, "B C"]:
        """Return the live channels of each sample."""
        if live not in self._done:
            self._done[live] = self._evaluate(live)
        return self._done[live]

    def _evaluate(self, live: Live) -> Tensor:
        match live:
            case OfSite():
                return self._masks[live.site]
            case All():
                return self._like.new_full((self._like.shape[0], live.width), self._top)
            case Union():
                return _fold(_either, (self(part) for part in live.parts))
            case Intersection():
                return _fold(_both, (self(part) for part in live.parts))
            case Concatenation():
                return torch.cat([self(part) for part in live.parts], 1)
            case Reorder():
                padded = torch.nn.functional.pad(self(live.source), (1, 0))
                return padded[:, torch.tensor(live.index, device=padded.device)]


def _either(one: Tensor, two: Tensor) -> Tensor:
    if one.dtype == torch.bool:
        return one | two
    return one + two - one * two if one.is_floating_point() else torch.maximum(one, two)


def _both(one: Tensor, two: Tensor) -> Tensor:
    if one.dtype == torch.bool:
        return one & two
    return one * two if one.is_floating_point() else torch.minimum(one, two)


def _fold(combine: Callable[[Tensor, Tensor], Tensor], tensors: Iterable[Tensor]) -> Tensor:
    first, *rest = tensors
    for tensor in rest:
        first = combine(first, tensor)
    return first
