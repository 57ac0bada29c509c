"""Timing several callables in turn, so that what disturbs the machine disturbs all of them."""

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from ftwt.reports.timing.machine import Others

# Seconds of timed calls that each subject gets in a round, if one call does not take longer.
_PER_ROUND = 0.03
# Share of the processors' time that others may use before a round counts as disturbed.
QUIET = 0.02


class Timing(NamedTuple):
    """Milliseconds a call: median over rounds, and the quartiles; `rounds` has each round's."""

    ms: float
    low: float
    high: float
    rounds: tuple[float, ...]

    @property
    def spread(self) -> float:
        """How far the quartiles are apart, of the median."""
        return (self.high - self.low) / self.ms


class Latency(NamedTuple):
    """Milliseconds a call where batches differ in what they take; `p99` is the 99th percentile."""

    mean: float
    median: float
    p99: float


_Key = TypeVar("_Key", bound=Hashable)


class Interleaved(NamedTuple, Generic[_Key]):
    """What `interleave` took.

    `others` is the share of the machine's processors that other programs used in the rounds that
    count, None where the system does not tell; `disturbed` how many of these rounds had more of
    that than `QUIET`.
    """

    times: Mapping[_Key, Timing]
    others: float | None
    disturbed: int


class _Round(NamedTuple, Generic[_Key]):
    number: int
    ms: Mapping[_Key, float]
    others: float | None

    @property
    def disturbance(self) -> float:
        return self.others or 0.0


def interleave(
    subjects: Mapping[_Key, Callable[[Tensor], Any]], batches: Sequence[Tensor], rounds: int
) -> Interleaved[_Key]:
    """Time each subject in each round, on the round's batch; every round starts with another.

    A round gives the median of a few calls, after one that is not timed: the one before was of
    another subject, whose weights fill the caches. Rounds in which other programs used more than
    `QUIET` of the processors are taken again, as many as `rounds` times in all; of both the quieter
    counts.
    """
    names = list(subjects)
    with torch.inference_mode():
        calls = {name: _calls(subjects[name], batches[0]) for name in names}

        def take(number: int) -> _Round[_Key]:
            batch, first, others = batches[number % len(batches)], number % len(names), Others()
            order = names[first:] + names[:first]
            ms = {name: _round(subjects[name], batch, calls[name]) for name in order}
            return _Round(number, ms, others.share())

        taken = [take(number) for number in range(rounds)]
        for _ in range(rounds):
            worst = max(taken, key=lambda one: one.disturbance)
            if worst.disturbance <= QUIET:
                break
            again = take(worst.number)
            if again.disturbance < worst.disturbance:
                taken[worst.number] = again
    times = {name: _timing([one.ms[name] for one in taken]) for name in names}
    shares = [one.others for one in taken if one.others is not None]
    others = statistics.mean(shares) if shares else None
    return Interleaved(times, others, sum(one.disturbance > QUIET for one in taken))


def latency(timing: Timing, batches: int) -> Latency:
    """Over the first so many batches of `interleave`, each by the median of its rounds."""
    own = [statistics.median(timing.rounds[i::batches]) for i in range(batches)]
    ordered = sorted(own)
    p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
    return Latency(statistics.mean(own), statistics.median(own), p99)


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
