"""Small improvements of a program: fewer steps that do the same."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from ftwt.graph.proxies import settled
from ftwt.runtime.program import (
    KEEP_ZERO,
    Activate,
    Add,
    Affine,
    Call,
    Conv,
    GateStep,
    Linear,
    Pooling,
    Program,
    Step,
    Value,
    held,
    output_of,
    sources_of,
)


def tidied(program: Program) -> Program:
    """Leave out what nobody reads; let steps take over the activation or pooling after them."""
    steps = _read(list(program.steps), program)
    # Without gates there is nothing to fuse: activations and pools are calls.
    for fuse in (_with_activation, _with_pool):
        steps = _fused(steps, program, fuse)
    return replace(program, steps=tuple(steps))


def _read(steps: list[Step], program: Program) -> list[Step]:
    wanted = set(held(program.result))
    kept: list[Step] = []
    for step in reversed(steps):
        acts = isinstance(step, Call) and (step.changes or step.run is settled)
        needed = isinstance(step, GateStep) or acts
        if needed or output_of(step) in wanted:
            wanted.update(sources_of(step))
            kept.append(step)
    return kept[::-1]


def _fused(
    steps: list[Step], program: Program, fuse: Callable[[Step, Step], Step | None]
) -> list[Step]:
    """Put pairs of a step and its only reader into one."""
    readers = Counter(held(program.result))
    for step in steps:
        readers.update(sources_of(step))
    makers: dict[Value, int] = {}
    found: list[Step | None] = []
    for step in steps:
        if isinstance(step, (Activate, Pooling)) and step.source in makers:
            place = makers[step.source]
            maker = found[place]
            both = fuse(maker, step) if maker is not None and readers[step.source] == 1 else None
            if both is not None:
                found[place] = both
                makers[step.output] = place
                continue
        found.append(step)
        made = output_of(step)
        if isinstance(made, Value):
            makers[made] = len(found) - 1
    return [step for step in found if step is not None]


def _with_activation(maker: Step, step: Step) -> Step | None:
    """An activation taken over by the step before it; after a mask only if it keeps zeros."""
    if not isinstance(step, Activate) or not isinstance(maker, (Conv, Linear, Add, Affine)):
        return None
    if maker.activation is not None:
        return None
    keeps = step.activation in KEEP_ZERO
    if not keeps and (isinstance(maker, Add) or (isinstance(maker, Conv) and maker.site)):
        return None
    return replace(maker, activation=step.activation, output=step.output)


def _with_pool(maker: Step, step: Step) -> Step | None:
    if not isinstance(step, Pooling) or not isinstance(maker, Conv):
        return None
    if step.pool is None or maker.pool is not None:
        return None
    return replace(maker, pool=step.pool, output=step.output)
