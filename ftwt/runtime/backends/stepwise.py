"""Back ends of torch, which run one step after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ftwt.runtime.backends.interface import Part
from ftwt.runtime.program import Step, Value
from ftwt.runtime.state import State


@dataclass(frozen=True)
class Stepwise:
    """Runs any step on any device, by a function of the step and the state."""

    name: str
    run_step: Callable[[Step, State], None]
    dense: bool = False
    whole: bool = False
    fuses = False
    runs_on = None

    def takes(self, step: Step) -> bool:
        """Return True."""
        return True

    def prepare(self, steps: Sequence[Step], writes: Sequence[Value], batch: int) -> Part:
        """Nothing is ready beforehand."""
        (step,) = steps
        return partial(self.run_step, step)
