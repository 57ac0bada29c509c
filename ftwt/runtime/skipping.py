"""`skip`: a gated network that runs only what its masks keep."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ftwt.model import Gated
from ftwt.runtime.anatomies import anatomy_for
from ftwt.runtime.audit import Audit, audited
from ftwt.runtime.backends import Backend, backend_named
from ftwt.runtime.checks import check_inputs, check_model
from ftwt.runtime.lower import lower
from ftwt.runtime.program import Program, Step
from ftwt.runtime.runner import Runner

# Batch sizes and image sizes that are kept ready.
_MOST_READY = 16

_Key: TypeAlias = tuple[Any, ...]


def skip(model: Gated, *, backend: str | None = None) -> "Skipping":
    """Return `model`, in eval mode, as a function that executes only what its masks ask for.

    Args:
        model: gated by `attach`, in eval mode. Its weights are copied at this moment, as batch
            norms are folded into them: call `skip` again after training. Thresholds of gates are
            read at every call.
        backend: "dense", "torch" or "native" for every step that it takes.

    Raises:
        FtwtError: no gated model, training mode, or a gate that cannot run beforehand.
    """
    check_model(model)
    return Skipping(model, backend_named(backend or "native"))


class Skipping:
    """A gated network that runs only what its masks keep; called like the network itself.

    Outputs are the gated network's in eval mode, to rounding, without gradients.
    """

    def __init__(self, model: Gated, backend: Backend) -> None:
        self.model = model
        self._backend = backend
        self._programs: dict[_Key, Program] = {}
        self._ready: dict[_Key, Runner] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the gated network would.

        Raises:
            FtwtError: inputs of a shape, dtype or device that the network does not take.
        """
        with torch.no_grad():
            return self._runner(inputs)(inputs, self.model.thresholds)

    def audit(self, *inputs: Tensor) -> Audit:
        """Run a batch and report the MACs that were really executed, by layer and sample."""
        with torch.no_grad():
            runner = self._runner(inputs)
            executed: dict[Step, Tensor] = {}
            state = runner.run(inputs, self.model.thresholds, executed)
            return audited(runner, state, executed, anatomy_for(self.model, inputs).plan)

    def program(self, *inputs: Tensor) -> Program:
        """The steps that run for inputs of this size."""
        check_inputs(self.model, inputs)
        key = tuple(tuple(one.shape[1:]) for one in inputs)
        found = self._programs.get(key)
        if found is None:
            found = self._programs[key] = lower(self.model, anatomy_for(self.model, inputs))
        return found

    def _runner(self, inputs: Sequence[Tensor]) -> Runner:
        try:
            key = tuple((one.shape, one.dtype, one.device) for one in inputs)
        except AttributeError:
            key = ()
        found = self._ready.get(key)
        if found is None or self.model.training:
            program = self.program(*inputs)
            own = self._backend
            rest = backend_named("torch")
            backends = [own if own.takes(step) else rest for step in program.steps]
            found = Runner(program, backends, len(inputs[0]))
            while len(self._ready) >= _MOST_READY:
                self._ready.pop(next(iter(self._ready)))
            self._ready[key] = found
        return found
