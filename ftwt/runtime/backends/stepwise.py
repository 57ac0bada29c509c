"""Back ends of torch, which run one step after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ftwt.runtime.backends.interface import Runnable
from ftwt.runtime.program import Step, Value
from ftwt.runtime.state import RunState


@dataclass(frozen=True)
class Stepwise:
    """Runs any step on any device, by a function of the step and the state."""

    name: str
    run_step: Callable[[Step, RunState], None]
    dense: bool = False
    whole: bool = False
    fuses = False
    runs_on = None

    def takes(self, step: Step) -> bool:
        """Return True."""
        return True

    def prepare(self, steps: Sequence[Step], writes: Sequence[Value], batch: int) -> Runnable:
        """Nothing is ready beforehand."""
        (step,) = steps
        return partial(self.run_step, step)
