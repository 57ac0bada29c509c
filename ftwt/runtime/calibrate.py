"""Choosing back ends by measuring them."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ftwt.runtime.backends import Backend, backend_named
from ftwt.runtime.placement import Placed, rows_of
from ftwt.runtime.program import (
    Conv,
    Gate,
    Linear,
    Other,
    Program,
    Step,
    Value,
    output_of,
    sources_of,
)
from ftwt.runtime.runner import Runner
from ftwt.runtime.state import State, clock

# Names of back ends, one for each step.
Names = tuple[str, ...]
# A candidate is run this often, or for this long, whichever ends first; but three times at least.
_ROUNDS, _MOST_MS = 15, 600.0
# Whole programs within this factor of the fastest after the first rounds are measured longer.
_FIRST_ROUNDS, _CLOSE = 4, 1.4
# Worth it only from end to end: the form of what they hand on costs whoever reads it.
_WHOLE = ("channels-last",)


def everywhere(program: Program, name: str) -> Names:
    """One back end for all steps that it takes; torch for the rest."""
    return tuple(
        name if _takes(backend_named(name), program, step) else "torch" for step in program.steps
    )


def prepared(program: Program, names: Sequence[str], batch: int) -> Runner:
    """A program on the back ends of these names; torch does what one cannot do here."""
    backends = [
        backend_named(name if _takes(backend_named(name), program, step) else "torch")
        for name, step in zip(names, program.steps, strict=True)
    ]
    return Runner(program, backends, batch)


def _takes(backend: Backend, program: Program, step: Step) -> bool:
    places = backend.runs_on
    here = places is None or (program.dtype, program.device.type) in places
    return here and backend.takes(step)


def calibrated(
    program: Program, inputs: Sequence[Tensor], thresholds: Mapping[str, float]
) -> Placed:
    """Measure the back ends on a batch, and place each step where the whole is fastest.

    Candidates are every back end by itself and the mix that their times step by step suggest;
    they are then run as a whole, in turns, and the fastest is taken.
    """
    batch = len(inputs[0])
    names = ("native", "torch", "dense", *_WHOLE)
    candidates = {name: everywhere(program, name) for name in names}
    candidates = {name: chosen for name, chosen in candidates.items() if name in chosen}
    runners = {name: prepared(program, chosen, batch) for name, chosen in candidates.items()}
    steps = {name: _steps(one, inputs, thresholds) for name, one in runners.items()}
    totals = _totals(runners, inputs, thresholds)
    single = {name: chosen for name, chosen in candidates.items() if name not in _WHOLE}
    mix = _mixed(program, batch, single, steps, totals)
    if mix not in candidates.values():
        candidates["mixed"] = mix
        runners["mixed"] = prepared(program, mix, batch)
        steps["mixed"] = _steps(runners["mixed"], inputs, thresholds)
        totals = _totals(runners, inputs, thresholds)
    best = min(totals, key=lambda name: totals[name])
    return _placed(runners[best], inputs, thresholds, steps[best], totals)


def profiled(runner: Runner, inputs: Sequence[Tensor], thresholds: Mapping[str, float]) -> Placed:
    """Measure every step of a program where it runs now."""
    totals = _totals({"now": runner}, inputs, thresholds)
    return _placed(runner, inputs, thresholds, _steps(runner, inputs, thresholds), totals)


def _placed(
    runner: Runner,
    inputs: Sequence[Tensor],
    thresholds: Mapping[str, float],
    ms: Mapping[Step, float],
    totals: Mapping[str, float],
) -> Placed:
    executed: dict[Step, Tensor] = {}
    runner.run(State(runner.batch, inputs[0].device, thresholds, executed), inputs)
    names = [piece.backend.name for piece in runner.pieces for _ in piece.steps]
    rows = tuple(
        replace(
            row,
            ms=ms[step],
            macs=executed[step].double().mean().item() if step in executed else None,
        )
        for row, step in zip(rows_of(runner.program, names), runner.program.steps, strict=True)
    )
    shapes = tuple(tuple(one.shape[1:]) for one in inputs)
    return Placed(runner.batch, shapes, torch.get_num_threads(), rows, totals)


def _steps(
    runner: Runner, inputs: Sequence[Tensor], thresholds: Mapping[str, float]
) -> dict[Step, float]:
    """Median milliseconds of each step."""
    found: dict[Step, list[float]] = {}

    def once() -> None:
        times: dict[Step, float] = {}
        runner.run(State(runner.batch, inputs[0].device, thresholds, times=times), inputs)
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
    """Back ends that differ for a step; without weights torch and dense are the same."""
    ways = [name for name, chosen in candidates.items() if chosen[place] == name]
    weighty = isinstance(step, (Conv, Linear, Gate))
    return ways if weighty else [name for name in ways if name != "dense"]


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
    name = "native"
    if name not in candidates:
        return [0.0] * len(program.steps)
    chosen = candidates[name]
    segments = sum(
        one == name != before for before, one in zip(("", *chosen), chosen, strict=False)
    )
    rest = totals[name] - sum(steps[name].values())
    fixed = max(0.01, rest / max(1, segments))
    per_element = _copy_ms() * batch
    return [fixed + elements * per_element for elements in _passing(program)]


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
