"""Timing several callables in turn, so that what disturbs the machine disturbs all of them."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Seconds of timed calls that each subject gets in a round, if one call does not take longer.
_PER_ROUND = 0.03


class Timing(NamedTuple):
    """Milliseconds a call: median over rounds, and the quartiles; `rounds` has each round's."""

    ms: float
    low: float
    high: float
    rounds: tuple[float, ...]


def interleave(
    subjects: Mapping[str, Callable[[Tensor], Any]], batches: Sequence[Tensor], rounds: int
) -> dict[str, Timing]:
    """Time each subject in each round, on the round's batch; every round starts with another.

    A round gives the median of a few calls, after one that is not timed: the one before was of
    another subject, whose weights fill the caches.
    """
    names = list(subjects)
    taken: dict[str, list[float]] = {name: [] for name in names}
    with torch.inference_mode():
        calls = {name: _calls(subjects[name], batches[0]) for name in names}
        for number in range(rounds):
            batch = batches[number % len(batches)]
            first = number % len(names)
            for name in names[first:] + names[:first]:
                taken[name].append(_round(subjects[name], batch, calls[name]))
    return {name: _timing(times) for name, times in taken.items()}


def paired_speedup(dense: Timing, other: Timing) -> float:
    """How many times faster: median over rounds of the ratio within a round."""
    pairs = zip(dense.rounds, other.rounds, strict=True)
    return statistics.median(one / two for one, two in pairs)


def _calls(subject: Callable[[Tensor], Any], batch: Tensor) -> int:
    """Warm a subject up, and find how many calls make a round."""
    subject(batch)
    seconds = min(_once(subject, batch) for _ in range(2))
    return max(1, min(20, math.ceil(_PER_ROUND / seconds)))


def _round(subject: Callable[[Tensor], Any], batch: Tensor, calls: int) -> float:
    subject(batch)
    return 1e3 * statistics.median(_once(subject, batch) for _ in range(calls))


def _once(subject: Callable[[Tensor], Any], batch: Tensor) -> float:
    start = time.perf_counter()
    subject(batch)
    return time.perf_counter() - start


def _timing(times: list[float]) -> Timing:
    ordered = sorted(times)
    low, high = (ordered[round(q * (len(ordered) - 1))] for q in (0.25, 0.75))
    return Timing(statistics.median(ordered), low, high, tuple(times))
