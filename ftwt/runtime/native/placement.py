"""Where values lie in a segment's memory."""

from collections.abc import Sequence
from typing import NamedTuple

# Floats in a cache line.
LINE = 16


class Lifetime(NamedTuple):
    """A value's size in floats, the step that makes it and the last that reads it."""

    size: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets such that values that live at once do not overlap, and the size of the whole.

    Largest first, each at the lowest offset that is free for all of its life.
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    total = 0
    for one in sorted(range(len(lifetimes)), key=lambda i: -lifetimes[i].size):
        life, offset = lifetimes[one], 0
        busy = sorted(
            (offsets[other], lifetimes[other].size)
            for other in placed
            if lifetimes[other].first <= life.last and life.first <= lifetimes[other].last
        )
        for start, size in busy:
            if start - offset >= life.size:
                break
            offset = max(offset, _aligned(start + size))
        offsets[one] = offset
        placed.append(one)
        total = max(total, offset + life.size)
    return offsets, total


def _aligned(floats: int) -> int:
    return -(-floats // LINE) * LINE
