"""Choosing back ends by measuring them."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ftwt.gated.sizes import shapes_of
from ftwt.runtime.backends import backend_named, backend_names, everywhere, taking
from ftwt.runtime.placement import Placed, rows_of
from ftwt.runtime.program import (
    Conv,
    GateStep,
    Linear,
    Other,
    Program,
    Step,
    Value,
    output_of,
    sources_of,
)
from ftwt.runtime.runner import Runner
from ftwt.runtime.state import RunState, clock

# Names of back ends, one for each step.
Names = tuple[str, ...]
# A candidate is run this often, or for this long, whichever ends first; but three times at least.
_ROUNDS, _MOST_MS = 15, 600.0
# Whole programs within this factor of the fastest after the first rounds are measured longer.
_FIRST_ROUNDS, _CLOSE = 4, 1.4
# What is chosen is faster than the usual by this share, and in this share of rounds.
_MARGIN, _MOSTLY = 0.03, 0.75
_MIXED = "mixed"


def prepared(program: Program, names: Sequence[str], batch: int) -> Runner:
    """A program on the back ends of these names; torch does what one cannot do here."""
    backends = [taking(program, *pair) for pair in zip(program.steps, names, strict=True)]
    return Runner(program, backends, batch)


def measured(
    program: Program, inputs: Sequence[Tensor], thresholds: Mapping[str, float], usual: str
) -> Placed:
    """Measure the back ends on a batch, and place each step where the whole is fastest.

    Candidates are every back end by itself and the mix that their times step by step suggest;
    they are then run as a whole, in turns. The fastest is taken if it beats the `usual` back end,
    which runs what is not measured, also in a duel of paired rounds: one disturbed measurement
    chooses nothing.
    """
    batch = len(inputs[0])
    candidates = {name: everywhere(program, name) for name in backend_names()}
    candidates = {
        name: chosen for name, chosen in candidates.items() if name in chosen or name == usual
    }
    runners = {name: prepared(program, chosen, batch) for name, chosen in candidates.items()}
    steps = {name: _steps(one, inputs, thresholds) for name, one in runners.items()}
    totals = _totals(runners, inputs, thresholds)
    single = {name: chosen for name, chosen in candidates.items() if not backend_named(name).whole}
    mix = _mixed(program, batch, single, steps, totals)
    if mix not in candidates.values():
        candidates[_MIXED] = mix
        runners[_MIXED] = prepared(program, mix, batch)
        steps[_MIXED] = _steps(runners[_MIXED], inputs, thresholds)
        totals = _totals(runners, inputs, thresholds)
    best = min(totals, key=lambda name: totals[name])
    if best != usual and not _beats(runners[best], runners[usual], inputs, thresholds):
        best = usual
    return _placed(runners[best], inputs, thresholds, steps[best], totals, best)


def _beats(
    one: Runner, other: Runner, inputs: Sequence[Tensor], thresholds: Mapping[str, float]
) -> bool:
    """Whether one program is faster than another by a margin, round by round."""
    first, second = (partial(runner, inputs, thresholds) for runner in (one, other))
    return wins(_pairs((first, second), inputs[0].device))


def wins(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether the first of each pair of milliseconds is the shorter one, clearly and mostly."""
    ratios = [first / second for first, second in pairs]
    most = sum(ratio < 1 for ratio in ratios) >= _MOSTLY * len(ratios)
    return most and statistics.median(ratios) < 1 - _MARGIN


def _pairs(
    runs: tuple[Callable[[], object], Callable[[], object]], device: torch.device
) -> list[tuple[float, float]]:
    """Milliseconds of both in each round; which is first changes from round to round."""
    pairs: list[tuple[float, float]] = []

    def once() -> None:
        ms = [0.0, 0.0]
        for place in (0, 1) if len(pairs) % 2 else (1, 0):
            started = clock(device)
            runs[place]()
            ms[place] = clock(device) - started
        pairs.append((ms[0], ms[1]))

    _repeat([once], device)
    return pairs[1:]


def profiled(runner: Runner, inputs: Sequence[Tensor], thresholds: Mapping[str, float]) -> Placed:
    """Measure every step of a program where it runs now."""
    totals = _totals({"now": runner}, inputs, thresholds)
    return _placed(runner, inputs, thresholds, _steps(runner, inputs, thresholds), totals, "now")


def _placed(
    runner: Runner,
    inputs: Sequence[Tensor],
    thresholds: Mapping[str, float],
    ms: Mapping[Step, float],
    totals: Mapping[str, float],
    chosen: str,
) -> Placed:
    executed: dict[Step, Tensor] = {}
    runner.run(RunState(runner.batch, inputs[0].device, thresholds, executed), inputs)
    ran = [piece.backend.name for piece in runner.pieces for _ in piece.steps]
    rows = tuple(
        replace(
            row,
            ms=ms[step],
            macs=executed[step].double().mean().item() if step in executed else None,
        )
        for row, step in zip(rows_of(runner.program, ran), runner.program.steps, strict=True)
    )
    return Placed(runner.batch, shapes_of(inputs), rows, totals, torch.get_num_threads(), chosen)


def _steps(
    runner: Runner, inputs: Sequence[Tensor], thresholds: Mapping[str, float]
) -> dict[Step, float]:
    """Median milliseconds of each step."""
    found: dict[Step, list[float]] = {}

    def once() -> None:
        times: dict[Step, float] = {}
        runner.run(RunState(runner.batch, inputs[0].device, thresholds, times=times), inputs)
        for step, ms in times.items():
            found.setdefault(step, []).append(ms)

    _repeat([once], inputs[0].device)
    # The first run prepares.
    return {step: statistics.median(ms[1:]) for step, ms in found.items()}


def _totals(
    runners: Mapping[str, Runner], inputs: Sequence[Tensor], thresholds: Mapping[str, float]
) -> dict[str, float]:
    """Median milliseconds of whole programs, which take turns so that all have the same luck.

    Those that are clearly slower stop early, so that the time goes to those that are close.
    """
    ms: dict[str, list[float]] = {name: [] for name in runners}

    def once(name: str) -> Callable[[], None]:
        def run() -> None:
            started = clock(inputs[0].device)
            runners[name](inputs, thresholds)
            ms[name].append(clock(inputs[0].device) - started)

        return run

    def medians() -> dict[str, float]:
        return {name: statistics.median(times[1:]) for name, times in ms.items()}

    device = inputs[0].device
    _repeat([once(name) for name in runners], device, rounds=_FIRST_ROUNDS)
    first = medians()
    close = [name for name in runners if first[name] <= _CLOSE * min(first.values())]
    if len(close) > 1:
        _repeat([once(name) for name in close], device)
    return medians()


def _repeat(
    runs: Sequence[Callable[[], None]], device: torch.device, rounds: int = _ROUNDS
) -> None:
    started = clock(device)
    for place in range(rounds + 1):
        for run in runs:
            run()
        if place >= 3 and clock(device) - started > _MOST_MS * len(runs):
            break


def _mixed(
    program: Program,
    batch: int,
    candidates: Mapping[str, Names],
    steps: Mapping[str, Mapping[Step, float]],
    totals: Mapping[str, float],
) -> Names:
    """The cheapest way through the steps, where entering and leaving a segment has its price."""
    border = _borders(program, batch, candidates, steps, totals)
    best: dict[str, tuple[float, Names]] = {}
    for place, step in enumerate(program.steps):
        reached: dict[str, tuple[float, Names]] = {}
        for name in _ways(step, place, candidates):
            ways = best or {name: (0.0, ())}
            cost, before = min(
                (
                    (spent + (border[place] if _crosses(last, name) else 0.0), names)
                    for last, (spent, names) in ways.items()
                ),
                key=lambda way: way[0],
            )
            reached[name] = (cost + steps[name][step], (*before, name))
        best = reached
    return min(best.values(), key=lambda way: way[0])[1]


def _ways(step: Step, place: int, candidates: Mapping[str, Names]) -> list[str]:
    """Back ends that differ for a step; without weights, dense ones do what torch does."""
    ways = [name for name, chosen in candidates.items() if chosen[place] == name]
    weighty = isinstance(step, (Conv, Linear, GateStep))
    return ways if weighty else [name for name in ways if not backend_named(name).dense]


def _crosses(one: str, two: str) -> bool:
    return one != two and (backend_named(one).fuses or backend_named(two).fuses)


def _borders(
    program: Program,
    batch: int,
    candidates: Mapping[str, Names],
    steps: Mapping[str, Mapping[Step, float]],
    totals: Mapping[str, float],
) -> list[float]:
    """Milliseconds that a change of back end costs before each step.

    That is the part of a whole run that no step accounts for, shared among its segments, and a
    copy of every tensor that passes.
    """
    fused = [name for name in candidates if backend_named(name).fuses]
    if not fused:
        return [0.0] * len(program.steps)
    fixed = max(_per_segment(candidates[one], totals[one], steps[one], one) for one in fused)
    per_element = _copy_ms() * batch
    return [fixed + elements * per_element for elements in _passing(program)]


def _per_segment(chosen: Names, total: float, steps: Mapping[Step, float], name: str) -> float:
    segments = sum(
        one == name != before for before, one in zip(("", *chosen), chosen, strict=False)
    )
    return max(0.01, (total - sum(steps.values())) / max(1, segments))


def _passing(program: Program) -> list[int]:
    """Elements of one sample's tensors that are made before each step and read from it on."""
    last: dict[Value | Other, int] = {}
    for place, step in enumerate(program.steps):
        last.update(dict.fromkeys(sources_of(step), place))
    alive = {one for one in program.inputs if isinstance(one, Value)}
    found = []
    for place, step in enumerate(program.steps):
        alive = {value for value in alive if last.get(value, -1) >= place}
        found.append(sum(torch.Size(value.shape).numel() for value in alive))
        made = output_of(step)
        if isinstance(made, Value):
            alive.add(made)
    return found


def _copy_ms(elements: int = 1 << 18) -> float:
    """Milliseconds to copy a float."""
    source, device = torch.ones(elements), torch.device("cpu")
    times = []
    for _ in range(5):
        started = clock(device)
        source.clone()
        times.append(clock(device) - started)
    return statistics.median(times) / elements
