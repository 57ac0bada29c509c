"""A program, cut into parts that back ends run, ready for one batch size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ftwt.runtime.backends.interface import Backend, Runnable
from ftwt.runtime.backends.steps import is_channels_last
from ftwt.runtime.program import Other, Program, Step, Value, held, output_of, sources_of
from ftwt.runtime.state import RunState, clock


@dataclass(frozen=True)
class Stretch:
    """Consecutive steps on one back end."""

    backend: Backend
    steps: tuple[Step, ...]
    run: Runnable
    # What nobody reads afterwards.
    frees: tuple[Value | Other, ...]


class Runner:
    """Runs a program on batches of one size."""

    def __init__(self, program: Program, backends: Sequence[Backend], batch: int) -> None:
        """`backends` has one for each step."""
        self.program, self.batch = program, batch
        self.pieces = _pieces(program, backends, batch)
        result = program.result
        self._only = result if isinstance(result, (Value, Other)) else None
        self._masks = {
            name: mask.to(program.device).expand(batch, -1).contiguous()
            for name, mask in program.masks.items()
        }

    def __call__(
        self,
        inputs: Sequence[Tensor],
        thresholds: Mapping[str, float],
    ) -> Any:
        """Return what `forward` returns. Inputs are checked already."""
        return self.finish(self.run(RunState(self.batch, inputs[0].device, thresholds), inputs))

    def run(self, state: RunState, inputs: Sequence[Tensor]) -> RunState:
        """Run every step; masks are all in the state after that, of tensors only the results."""
        values = state.values
        state.masks.later(self._masks)
        for value, tensor in zip(self.program.inputs, inputs, strict=True):
            values[value] = tensor.contiguous()
        for piece in self.pieces:
            if state.times is None:
                piece.run(state)
            else:
                _timed(piece, state)
            for done in piece.frees:
                del values[done]
        return state

    def finish(self, state: RunState) -> Any:
        """What `forward` returns."""
        if self._only is not None:
            return _given(state.values[self._only])

        def fill(leaf: Any) -> Any:
            return _given(state.values[leaf]) if isinstance(leaf, (Value, Other)) else leaf

        return filled(self.program.result, fill)


def filled(structure: Any, fill: Callable[[Any], Any]) -> Any:
    """Nested results as the network's own code writes them, not as a graph holds them."""
    if isinstance(structure, dict):
        return {key: filled(one, fill) for key, one in structure.items()}
    if isinstance(structure, (list, tuple)):
        held = [filled(one, fill) for one in structure]
        if isinstance(structure, list):
            return held
        return type(structure)(*held) if hasattr(structure, "_fields") else tuple(held)
    return fill(structure)


def _given(value: Any) -> Any:
    """As the network itself gives it: channels are innermost inside only."""
    return value.contiguous() if isinstance(value, Tensor) and is_channels_last(value) else value


def _pieces(program: Program, backends: Sequence[Backend], batch: int) -> tuple[Stretch, ...]:
    runs = _runs(program.steps, backends)
    last: dict[Value | Other, int] = {}
    for place, (_, steps) in enumerate(runs):
        for step in steps:
            made = output_of(step)
            last.update(dict.fromkeys(sources_of(step), place))
            if made is not None:
                last[made] = place
    last.update(dict.fromkeys(held(program.result), len(runs)))
    pieces = []
    for place, (backend, steps) in enumerate(runs):
        made_here = [one for one in map(output_of, steps) if one is not None]
        writes = [one for one in made_here if isinstance(one, Value) and last[one] > place]
        ended = [one for one, end in last.items() if end == place]
        # What begins and ends inside of a part never leaves it.
        inside = set(made_here) if backend.fuses else set()
        frees = tuple(one for one in ended if one not in inside)
        pieces.append(Stretch(backend, steps, backend.prepare(steps, writes, batch), frees))
    return tuple(pieces)


def _runs(
    steps: Sequence[Step], backends: Sequence[Backend]
) -> list[tuple[Backend, tuple[Step, ...]]]:
    runs: list[tuple[Backend, tuple[Step, ...]]] = []
    for step, backend in zip(steps, backends, strict=True):
        if runs and backend.fuses and runs[-1][0] is backend:
            runs[-1] = (backend, (*runs[-1][1], step))
        else:
            runs.append((backend, (step,)))
    return runs


def _timed(piece: Stretch, state: RunState) -> None:
    """Run a piece and note its milliseconds, unless it does so itself for each of its steps."""
    assert state.times is not None
    started = clock(state.device)
    piece.run(state)
    if not piece.backend.fuses:
        state.times[piece.steps[0]] = clock(state.device) - started
