"""Comparing what was counted with what was executed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ftwt.gated.anatomy import Anatomy
from ftwt.gated.explain import uncounted
from ftwt.macs import Plan
from ftwt.runtime.backends.gates import exact
from ftwt.runtime.program import Call, Conv, GateRows, GateStep, Linear, Program, Step
from ftwt.runtime.runner import Runner
from ftwt.runtime.state import RunState


@dataclass(frozen=True)
class Audit:
    """MACs of one batch by layer and sample: executed, and as `Trace.macs` counts them.

    Counts are for the masks that were decided in this very run, of products as the definition of a
    convolution has them: Winograd's algorithm gets by with half of those of a layer. `dense` names
    the layers that ran with every filter and input, because the plan says so or because only their
    own module knows how they compute: only these may execute more than was counted. What depends on
    no input, such as a product of weights, ran when `skip` was called, and stands with that.
    `uncounted` names what nobody counts: see `Gated.explain`.
    """

    executed: Mapping[str, Int[Tensor, "B"]]
    counted: Mapping[str, Int[Tensor, "B"]]
    executed_gates: Mapping[str, Int[Tensor, "B"]]
    counted_gates: Mapping[str, Int[Tensor, "B"]]
    dense: tuple[str, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def macs(self) -> Int[Tensor, "B"]:
        """Executed MACs of each sample, gates included."""
        parts = [*self.executed.values(), *self.executed_gates.values()]
        return torch.stack(parts).sum(0)

    @property
    def counted_macs(self) -> Int[Tensor, "B"]:
        """What `Trace.macs` says of the same masks."""
        parts = [*self.counted.values(), *self.counted_gates.values()]
        return torch.stack(parts).sum(0)

    @property
    def differing(self) -> tuple[str, ...]:
        """Layers, and gates as "gate of SITE", that did not execute what was counted."""
        layers = (name for name in self.counted if _differ(self.executed[name], self.counted[name]))
        gates = (
            f"gate of {name}"
            for name in self.counted_gates
            if _differ(self.executed_gates[name], self.counted_gates[name])
        )
        return (*layers, *gates)


def audited(
    runner: Runner, state: RunState, executed: Mapping[Step, Tensor], anatomy: Anatomy
) -> Audit:
    """Put what back ends noted beside what the plan counts."""
    plan = anatomy.plan
    gated = [step.site for step in runner.program.steps if isinstance(step, (GateStep, GateRows))]
    masks = {site: state.masks[site].cpu() for site in (*gated, *runner.program.masks)}
    counted, counted_gates = plan.exact(masks), plan.gates(masks)
    nothing = torch.zeros(runner.batch, dtype=torch.int64)
    layers = dict.fromkeys(counted, nothing)
    gates = dict.fromkeys(counted_gates, nothing)
    for step, macs in executed.items():
        owner = step.site if isinstance(step, GateStep) else step.name.removeprefix("gate of ")
        if isinstance(step, GateStep) or (owner != step.name and owner in gates):
            gates[owner] = gates[owner] + macs
        else:
            layers[step.name] = layers.get(step.name, nothing) + macs
    layers |= {name: counted[name] for name in done_beforehand(plan, runner.program)}
    reads_live = {layer.name for layer in plan.layers if layer.inputs is not None}
    dense = [
        f"gate of {step.site}" if isinstance(step, GateStep) else step.name
        for piece in runner.pieces
        for step in piece.steps
        if (piece.backend.dense and isinstance(step, (Conv, GateStep, Linear)))
        or (isinstance(step, GateStep) and not exact(step))
        or (isinstance(step, Call) and step.name in reads_live)
        or isinstance(step, GateRows)
    ]
    return Audit(layers, counted, gates, counted_gates, tuple(dense), uncounted(anatomy.traced))


def done_beforehand(plan: Plan, program: Program) -> dict[str, int]:
    """MACs of layers that depend on no input and ran when the program was made, by name."""
    steps = {step.name for step in program.steps if not isinstance(step, GateStep)}
    return {
        layer.name: layer.dense_macs
        for layer in plan.layers
        if layer.shared and layer.name not in steps
    }


def _differ(one: Tensor, two: Tensor) -> bool:
    return not torch.equal(one, two.to(torch.int64))
