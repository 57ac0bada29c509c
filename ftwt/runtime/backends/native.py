"""Segments in compiled C, one call each."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from ftwt.runtime import native
from ftwt.runtime.backends import gathered
from ftwt.runtime.backends.interface import Runnable
from ftwt.runtime.program import Step, Value, output_of, sources_of
from ftwt.runtime.state import RunState, clock


class Native:
    """Runs float32 steps on the CPU; what passes between them stays in the form it likes.

    Args:
        name: what plans call it.
        winograd: whether 3x3 convolutions that gain by it multiply half as often, which rounds
            about three times as much.
    """

    fuses = True
    dense = False
    whole = False
    runs_on = frozenset({(torch.float32, "cpu")})

    def __init__(self, name: str, *, winograd: bool) -> None:
        self.name, self._winograd = name, winograd

    def takes(self, step: Step) -> bool:
        """Whether the library is there and knows the step."""
        return native.supports(step)

    def prepare(self, steps: Sequence[Step], writes: Sequence[Value], batch: int) -> Runnable:
        """Translate the steps for one batch size."""
        made = {output_of(step) for step in steps}
        read = dict.fromkeys(source for step in steps for source in sources_of(step))
        inputs = [one for one in read if isinstance(one, Value) and one not in made]
        segment = native.Segment(steps, inputs, list(writes), batch, winograd=self._winograd)

        def run(state: RunState) -> None:
            if any(state.values[one].dtype != torch.float32 for one in inputs):
                # Pixels before they are scaled, say: torch knows what they become.
                _in_torch(steps, state)
                return
            # Of all that is there the segment looks at its own inputs only, which are tensors.
            given = cast(Mapping[Value, Tensor], state.values)
            values, masks = segment.run(
                given,
                state.masks,
                thresholds=state.thresholds,
                executed=state.executed,
                times=state.times,
            )
            for value, tensor in values.items():
                state.values[value] = tensor
            state.masks.later(masks)

        return run


def _in_torch(steps: Sequence[Step], state: RunState) -> None:
    for step in steps:
        started = clock(state.device)
        gathered.run_gathered(step, state)
        if state.times is not None:
            state.times[step] = clock(state.device) - started
