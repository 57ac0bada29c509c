"""Skipping in plain torch: live inputs and active filters are gathered, sample by sample."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ftwt.runtime.backends import steps as plain
from ftwt.runtime.backends.gates import decide, decide_rows
from ftwt.runtime.program import Conv, GateRows, GateStep, Linear, Step
from ftwt.runtime.state import ChannelRows, RunState


def run_gathered(step: Step, state: RunState) -> None:
    """Run one step on live inputs and active filters."""
    match step:
        case GateStep():
            decide(step, state)
        case GateRows():
            decide_rows(step, state)
        case Conv():
            state.values[step.output] = _convolved(step, state)
        case Linear():
            state.values[step.output] = _linear(step, state)
        case _:
            plain.run_unweighted(step, state)


def uniform_groups(batch: int, *rows: ChannelRows) -> Iterator[tuple[slice, int]]:
    """Samples that can run together, as they have the same channels; each by itself otherwise."""
    if all(one.uniform for one in rows):
        yield slice(0, batch), 0
    else:
        for sample in range(batch):
            yield slice(sample, sample + 1), sample


def _convolved(step: Conv, state: RunState) -> Tensor:
    x: Tensor = state.values[step.source]
    inputs, filters = state.rows(step.source.live), state.filters(step.site)
    out: Tensor | None = None
    for samples, one in uniform_groups(state.batch, inputs, filters):
        chosen = filters.index(one)
        if chosen is not None and out is None:
            out = x.new_zeros((state.batch, *step.output.shape))
        if chosen is not None and not len(chosen):
            continue
        part = _block(step, x[samples], inputs.index(one), chosen, state, samples)
        y = plain.pooled(plain.activated_(part, step.activation), step.pool)
        if chosen is None and len(part) == state.batch:
            return y
        if out is None:
            out = x.new_zeros((state.batch, *step.output.shape))
        if chosen is None:
            out[samples] = y
        else:
            out[samples].index_copy_(1, chosen, y)
    assert out is not None
    return out


def _block(
    step: Conv,
    x: Tensor,
    live: Tensor | None,
    chosen: Tensor | None,
    state: RunState,
    samples: slice,
) -> Tensor:
    """Active filters of some samples that have the same channels, before the activation."""
    if live is None and chosen is None:
        return _apply(step, x, step.weight, step.bias, step.groups, state, samples)
    weight, bias, groups = step.weight, step.bias, step.groups
    outs, per_group = weight.shape[0], weight.shape[1]
    if groups == 1:
        if chosen is not None:
            bias = bias.index_select(0, chosen)
        if live is None:
            assert chosen is not None
            return _apply(step, x, weight.index_select(0, chosen), bias, 1, state, samples)
        if chosen is None:
            chosen = torch.arange(outs, device=x.device)
        if not len(chosen) or not len(live):
            return _constant(step, x, bias)
        # Whole kernels are rows of one matrix: one gather, without strides.
        rows = (chosen[:, None] * per_group + live).view(-1)
        kernels = weight.view(outs * per_group, -1).index_select(0, rows)
        picked = kernels.view(len(chosen), len(live), *weight.shape[2:])
        return _apply(step, x.index_select(1, live), picked, bias, 1, state, samples)
    if chosen is None:
        chosen = torch.arange(outs, device=x.device)
    made = _constant(step, x, bias)
    fan = outs // groups
    if per_group == 1:
        # Each filter reads one channel.
        reads = chosen // fan
        if live is not None:
            alive = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
            alive[live] = True
            running = chosen[alive[reads]]
            reads = running // fan
        else:
            running = chosen
        if len(running):
            y = _apply(
                step, x.index_select(1, reads), weight.index_select(0, running),
                bias.index_select(0, running), len(running), state, samples,
            )  # fmt: skip
            made.index_copy_(1, running, y)
        return made.index_select(1, chosen)
    for group in range(groups):
        mine = chosen[(chosen >= group * fan) & (chosen < (group + 1) * fan)]
        first = group * per_group
        if live is None:
            own = torch.arange(first, first + per_group, device=x.device)
        else:
            own = live[(live >= first) & (live < first + per_group)]
        if not len(mine) or not len(own):
            continue
        kernels = weight.index_select(0, mine).index_select(1, own - first)
        bias_of = bias.index_select(0, mine)
        y = _apply(step, x.index_select(1, own), kernels, bias_of, 1, state, samples)
        made.index_copy_(1, mine, y)
    return made.index_select(1, chosen)


def _apply(
    step: Conv,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    state: RunState,
    samples: slice,
) -> Tensor:
    if not len(weight):
        return _constant(step, x, bias)
    y = F.conv2d(x, weight, bias, step.stride, step.padding, step.dilation, groups)
    state.count(step, samples, weight.numel() * y.shape[2] * y.shape[3])
    return y


def _constant(step: Conv, x: Tensor, bias: Tensor) -> Tensor:
    """What filters answer if all their inputs are dead, (B, filters, H, W)."""
    sides = [
        (side + 2 * pad - spread * (kernel - 1) - 1) // stride + 1
        for side, pad, spread, kernel, stride in zip(
            x.shape[2:], step.padding, step.dilation, step.weight.shape[2:], step.stride,
            strict=True,
        )
    ]  # fmt: skip
    return bias.view(1, -1, 1, 1).repeat(len(x), 1, *sides)


def _linear(step: Linear, state: RunState) -> Tensor:
    x: Tensor = state.values[step.source]
    if len(step.output.shape) == 1:
        x = x.flatten(1)
    inputs = state.rows(step.inputs)
    parts = []
    for samples, one in uniform_groups(state.batch, inputs):
        live, part, weight = inputs.index(one), x[samples], step.weight
        if live is not None:
            part, weight = part.index_select(-1, live), weight.index_select(1, live)
        y = F.linear(part, weight, step.bias)
        state.count(step, samples, weight.numel() * (y[0].numel() // len(weight)))
        parts.append(y)
    y = parts[0] if len(parts) == 1 else torch.cat(parts)
    return plain.activated_(y, step.activation)
