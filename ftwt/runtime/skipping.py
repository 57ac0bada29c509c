"""A gated network that runs only what its masks keep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.anatomy import Anatomy, Shapes
from ftwt.gated.known_masks import known_masks
from ftwt.gated.model import Gated
from ftwt.gated.sizes import shapes_of
from ftwt.graph.probing import countable
from ftwt.runtime.audit import Audit, audited
from ftwt.runtime.backends import backend_named, everywhere
from ftwt.runtime.checks import check_inputs
from ftwt.runtime.gating import Thresholds
from ftwt.runtime.lowering import lower, narrowed
from ftwt.runtime.measure import measured, prepared, profiled
from ftwt.runtime.operator import operator_of, taken_over
from ftwt.runtime.placement import Placed, Placement, fingerprint, rows_of
from ftwt.runtime.program import Program, Step
from ftwt.runtime.runner import Runner
from ftwt.runtime.state import RunState

# Batch sizes and image sizes that are kept ready.
_MOST_READY = 16

# What a program is for: shapes of one sample, precision and place of the weights, and thresholds
# other than zero of gates whose masks are known by them.
_For: TypeAlias = tuple[Shapes, torch.dtype | None, torch.device | None, tuple[Any, ...]]


def explain(skipping: "Skipping", batch: int = 1) -> Placed:
    """Say which back end runs which step for a batch size, and what that takes.

    The answer prints as a table. It is for images of the size that the model was attached with.
    """
    return skipping.explain(batch)


class Skipping(nn.Module):
    """A gated network that runs only what its masks keep; called like the network itself.

    Outputs are the gated network's in eval mode, to rounding, without gradients. It is a module,
    so that it stands in a larger one, moves with it by `.to()` and runs hooks.
    """

    def __init__(self, model: Gated, backend: str) -> None:
        super().__init__()
        self.training = False
        self.model = model
        self._backend = backend_named(backend).name
        self._thresholds = Thresholds(model)
        self._programs: dict[_For, Program] = {}
        self._ready: dict[tuple[Any, ...], Runner] = {}
        self.plan = Placement(fingerprint(self._own_program()))
        self.operator = operator_of(self, self._own_program().result)
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the gated network would, called in the same way.

        Raises:
            FtwtError: inputs of a shape, dtype or device that the network does not take.
        """
        tensors = not kwargs and all(isinstance(one, Tensor) for one in args)
        if torch.compiler.is_compiling() and self.operator is not None and tensors:
            return self.operator(*args)
        return self.run(self.model.bind(args, kwargs))

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """Answer a batch, given as its tensors in the order of the example's."""
        thresholds = self._thresholds()
        with torch.no_grad():
            return self._runner(inputs, thresholds)(inputs, thresholds)

    @property
    def most_macs(self) -> int:
        """MACs of a sample of the example's size for which every filter runs, gates included."""
        return self.model.dense_macs + self.model.gate_macs

    def calibrate(self, *inputs: Tensor) -> None:
        """Measure all back ends on a batch, and choose by that for batches of about its size.

        Another back end than the usual is chosen only where it is clearly faster.
        """
        program = self.program(*inputs)
        with torch.no_grad():
            placed = measured(program, inputs, self._thresholds(), self._backend)
        self.use(self.plan.with_placed(placed))

    def use(self, plan: Placement) -> None:
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
        twin = Skipping.__new__(Skipping)
        twin.__dict__.update(self.__dict__)
        twin._modules = {"model": self.model.at(reduction=reduction)}
        twin._thresholds = Thresholds(twin.model)
        if not twin._thresholds.all:
            # Gates that look at their own thresholds.
            twin._programs, twin._ready = {}, {}
        twin.operator = taken_over(self.operator, twin)
        return twin

    def audit(self, *inputs: Tensor) -> Audit:
        """Run a batch and report the MACs that were really executed, by layer and sample."""
        with torch.no_grad():
            thresholds = self._thresholds()
            runner = self._runner(inputs, thresholds)
            executed: dict[Step, Tensor] = {}
            state = RunState(runner.batch, inputs[0].device, thresholds, executed)
            with countable():
                runner.run(state, inputs)
            return audited(runner, state, executed, self.model.anatomy_for(inputs, "skip"))

    def profile(self, *inputs: Tensor) -> Placed:
        """Measure each step of a batch where it runs now; the answer prints as a table."""
        thresholds = self._thresholds()
        with torch.no_grad():
            return profiled(self._runner(inputs, thresholds), inputs, thresholds)

    def explain(self, batch: int) -> Placed:
        """What runs where for a batch size."""
        shapes = self.model.anatomy.expected
        placed = self.plan.for_batch(batch, shapes)
        if placed is not None:
            return replace(placed, batch=batch)
        program = self._own_program()
        return Placed(batch, shapes, rows_of(program, everywhere(program, self._backend)))

    def program(self, *inputs: Tensor) -> Program:
        """The steps that run for inputs of this size."""
        check_inputs(self.model, inputs)
        return self._program(shapes_of(inputs), lambda: self.model.anatomy_for(inputs, "skip"))

    def _own_program(self) -> Program:
        own = self.model.anatomy
        return self._program(own.expected, lambda: own)

    def _program(self, shapes: Shapes, anatomy: Callable[[], Anatomy]) -> Program:
        like = next((one for one in self.model.parameters() if one.is_floating_point()), None)
        kind = (None, None) if like is None else (like.dtype, like.device)
        key = (shapes, *kind, self._thresholds.of_known(self._thresholds()))
        found = self._programs.get(key)
        if found is None:
            found = lower(self.model, anatomy())
            if not backend_named(self._backend).dense:
                found = narrowed(found, known_masks(self.model))
            self._programs[key] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without what is prepared: a copy prepares its own."""
        return {**vars(self), "_programs": {}, "_ready": {}, "_thresholds": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._thresholds = Thresholds(self.model)
        self.operator = taken_over(self.operator, self)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Skipping":
        """Move or convert, and prepare anew."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        _forget(self)
        return self

    def _runner(self, inputs: Sequence[Tensor], thresholds: Mapping[str, float]) -> Runner:
        if self.model.training or not all(isinstance(one, Tensor) for one in inputs):
            check_inputs(self.model, inputs)
        sizes = tuple([(one.shape, one.dtype, one.device) for one in inputs])
        key = (sizes, self._thresholds.of_known(thresholds))
        found = self._ready.get(key)
        if found is None:
            program, batch = self.program(*inputs), len(inputs[0])
            placed = self.plan.for_batch(batch, shapes_of(inputs))
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


def _forget(skipping: nn.Module, _: Any = None) -> None:
    """Prepare anew, as weights have changed; the copies that `at` made keep what they have."""
    assert isinstance(skipping, Skipping)
    skipping._programs, skipping._ready = {}, {}
