"""A gated network that runs only what its masks keep."""

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.graph.probing import countable
from ftwt.runtime.audit import Audit, audited
from ftwt.runtime.backends import backend_named
from ftwt.runtime.calibrate import calibrated, everywhere, prepared, profiled
from ftwt.runtime.checks import check_inputs
from ftwt.runtime.explain import Explanation
from ftwt.runtime.gating import Thresholds
from ftwt.runtime.lowering import lower
from ftwt.runtime.placement import Plan, fingerprint, rows_of
from ftwt.runtime.program import Program, Step
from ftwt.runtime.runner import Runner
from ftwt.runtime.state import State

# Batch sizes and image sizes that are kept ready.
_MOST_READY = 16

_Shapes: TypeAlias = tuple[tuple[int, ...], ...]


def explain(skipping: "Skipping", batch: int = 1) -> Explanation:
    """Say which back end runs which step for a batch size, and what that takes.

    The answer prints as a table. It is for images of the size that the model was attached with.
    """
    return skipping.explain(batch)


class Skipping:
    """A gated network that runs only what its masks keep; called like the network itself.

    Outputs are the gated network's in eval mode, to rounding, without gradients.
    """

    def __init__(self, model: Gated, backend: str) -> None:
        self.model = model
        self._backend = backend_named(backend).name
        self._thresholds = Thresholds(model)
        own = lower(model, model.anatomy)
        self._programs: dict[_Shapes, Program] = {model.anatomy.expected: own}
        self._ready: dict[tuple[Any, ...], Runner] = {}
        self.plan = Plan(fingerprint(own))

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the gated network would.

        Raises:
            FtwtError: inputs of a shape, dtype or device that the network does not take.
        """
        with torch.no_grad():
            return self._runner(inputs)(inputs, self._thresholds())

    def calibrate(self, *inputs: Tensor) -> None:
        """Measure all back ends on a batch, and choose by that for batches of about its size."""
        program = self.program(*inputs)
        with torch.no_grad():
            self.use(self.plan.with_placed(calibrated(program, inputs, self._thresholds())))

    def use(self, plan: Plan) -> None:
        """Run by a plan from now on.

        Raises:
            FtwtError: the plan was made for another model.
        """
        if plan.model != self.plan.model:
            raise FtwtError(
                f"skip: the plan was made for another model ({plan.model}, this one is "
                f"{self.plan.model}); make one with skip(model, calibrate=images)"
            )
        self.plan = plan
        self._ready = {}

    def at(self, *, reduction: float) -> "Skipping":
        """The same network at another share of MACs saved: see `Gated.at`.

        It shares everything that is prepared with this one.

        Raises:
            FtwtError: the model was not calibrated, or not for reductions this low or high.
        """
        twin = copy.copy(self)
        twin.model = self.model.at(reduction=reduction)
        twin._thresholds = Thresholds(twin.model)
        if not twin._thresholds.all:
            # Gates that look at their own thresholds.
            twin._programs = {twin.model.anatomy.expected: lower(twin.model, twin.model.anatomy)}
            twin._ready = {}
        return twin

    def audit(self, *inputs: Tensor) -> Audit:
        """Run a batch and report the MACs that were really executed, by layer and sample."""
        with torch.no_grad():
            runner = self._runner(inputs)
            executed: dict[Step, Tensor] = {}
            state = State(runner.batch, inputs[0].device, self._thresholds(), executed)
            with countable():
                runner.run(state, inputs)
            return audited(runner, state, executed, self.model.anatomy_for(inputs, "skip"))

    def profile(self, *inputs: Tensor) -> Explanation:
        """Measure each step of a batch where it runs now; the answer prints as a table."""
        with torch.no_grad():
            placed = profiled(self._runner(inputs), inputs, self._thresholds())
        return Explanation(placed.batch, placed.shapes, placed.rows, placed.totals, placed.threads)

    def explain(self, batch: int) -> Explanation:
        """What runs where for a batch size."""
        shapes = self.model.anatomy.expected
        placed = self.plan.for_batch(batch, shapes)
        if placed is not None:
            return Explanation(batch, shapes, placed.rows, placed.totals, placed.threads)
        program = self._programs[shapes]
        rows = rows_of(program, everywhere(program, self._backend))
        return Explanation(batch, shapes, rows, {})

    def program(self, *inputs: Tensor) -> Program:
        """The steps that run for inputs of this size."""
        check_inputs(self.model, inputs)
        shapes = tuple(tuple(one.shape[1:]) for one in inputs)
        found = self._programs.get(shapes)
        if found is None:
            found = self._programs[shapes] = lower(
                self.model, self.model.anatomy_for(inputs, "skip")
            )
        return found

    def _runner(self, inputs: Sequence[Tensor]) -> Runner:
        if self.model.training or not all(isinstance(one, Tensor) for one in inputs):
            check_inputs(self.model, inputs)
        key = tuple([(one.shape, one.dtype, one.device) for one in inputs])
        found = self._ready.get(key)
        if found is None:
            program, batch = self.program(*inputs), len(inputs[0])
            placed = self.plan.for_batch(batch, tuple(tuple(one.shape[1:]) for one in inputs))
            if placed is None:
                names: Sequence[str] = everywhere(program, self._backend)
            elif len(placed.rows) == len(program.steps):
                names = [row.backend for row in placed.rows]
            else:
                raise FtwtError(
                    f"skip: the plan has {len(placed.rows)} steps, but the model has "
                    f"{len(program.steps)}; make one with skip(model, calibrate=images)"
                )
            found = prepared(program, names, batch)
            while len(self._ready) >= _MOST_READY:
                self._ready.pop(next(iter(self._ready)), None)
            self._ready[key] = found
        return found
