"""Gates that read live channels only, in torch.

A dead channel's pooled value is zero, so that all dead channels have one normalised value, g0.
With the row sums r of the gate's weights, W g + b = b + g0 r + sum over live i of w_i (g_i - g0).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ftwt.gated.known_masks import mask_of
from ftwt.gates.forms import AffineForm, form_of
from ftwt.gates.interface import follows_input
from ftwt.gates.pooling import summarize
from ftwt.runtime.backends.steps import counted, zeroed
from ftwt.runtime.program import GateRows, GateStep
from ftwt.runtime.state import ChannelRows, RunState


def decide(step: GateStep, state: RunState, *, dense: bool = False) -> None:
    """Note the mask of a site; `dense` reads every channel."""
    if follows_input(step.module):
        mask, x = state.rows(step.source.live).mask, state.values[step.source]
        every = torch.ones(state.batch, step.out_channels, dtype=torch.bool, device=x.device)
        state.masks[step.site] = every if mask is None else mask.expand_as(every)
        return
    x = state.values[step.source]
    module, live = step.module, ChannelRows(None) if dense else state.rows(step.source.live)
    match form_of(module):
        case AffineForm(pool, normalize, weight, bias, hidden):
            values = summarize(x, pool, normalize)
            if hidden is None:
                logits = _product(step, state, (weight, bias), values, live)
            else:
                inner = F.relu(_product(step, state, hidden, values, live))
                logits = F.linear(inner, weight, bias)
                state.count(step, slice(None), weight.numel())
        case _:
            context = () if step.context is None else (state.values[step.context],)
            logits = counted(step, state, lambda: module(x, *context))
    state.masks[step.site] = mask_of(logits, state.thresholds.get(step.site, 0.0))


def decide_rows(step: GateRows, state: RunState) -> None:
    """Note the mask of a site's rows, and apply it."""
    values = state.values
    context = () if step.context is None else (values[step.context],)
    logits = counted(step, state, lambda: step.module(values[step.source], *context))
    mask = mask_of(logits, state.thresholds.get(step.site, 0.0))
    state.masks[step.site] = mask
    values[step.output] = zeroed(values[step.features], mask)


def exact(step: GateStep) -> bool:
    """Whether a gate executes the MACs that are counted for it, no more."""
    return form_of(step.module) is not None or follows_input(step.module)


def _product(
    step: GateStep, state: RunState, layer: tuple[Tensor, Tensor], values: Tensor, live: ChannelRows
) -> Tensor:
    weight, bias = layer
    values = values.to(weight.dtype)
    outs = len(weight)
    if live.mask is None:
        state.count(step, slice(None), weight.numel())
        return F.linear(values, weight, bias)
    sums = weight.sum(1)
    rows = []
    for sample in range(state.batch):
        index, own = live.index(sample), values[sample]
        if index is None:
            state.count(step, slice(sample, sample + 1), weight.numel())
            rows.append(F.linear(own, weight, bias))
            continue
        dead = own[live.mask[sample].long().argmin()]
        # Of a channel there may be several values, each kind after the other.
        starts = torch.arange(0, len(own), live.mask.shape[1], device=index.device)
        index = (starts[:, None] + index).flatten()
        kept = own.index_select(0, index) - dead
        product = weight.index_select(1, index) @ kept
        state.count(step, slice(sample, sample + 1), outs * len(index))
        rows.append(bias + dead * sums + product)
    return torch.stack(rows)
