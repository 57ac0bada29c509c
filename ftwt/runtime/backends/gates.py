"""Gates that read live channels only, in torch.

A dead channel's pooled value is zero, so that all dead channels have one normalised value, g0.
With the row sums r of the gate's weights, W g + b = b + g0 r + sum over live i of w_i (g_i - g0).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ftwt.gates.bottleneck import _Bottleneck
from ftwt.gates.pooled_linear import _PooledLinear
from ftwt.gates.pooling import summarize
from ftwt.gates.untrained import _Table
from ftwt.runtime.backends.steps import counted
from ftwt.runtime.program import Gate
from ftwt.runtime.state import Rows, State


def decide(step: Gate, state: State, *, dense: bool = False) -> None:
    """Note the mask of a site; `dense` reads every channel."""
    x: Tensor = state.values[step.source]
    module, live = step.module, Rows(None) if dense else state.rows(step.source.live)
    match module:
        case _PooledLinear():
            values = summarize(x, module.spec.pool, module.spec.normalize)
            logits = _product(step, state, module.linear, values, live)
        case _Bottleneck():
            values = summarize(x, module.spec.pool, module.spec.normalize)
            first, last = module.layers[0], module.layers[2]
            assert isinstance(first, nn.Linear)
            assert isinstance(last, nn.Linear)
            hidden = F.relu(_product(step, state, first, values, live))
            logits = F.linear(hidden, last.weight, last.bias)
            state.count(step, slice(None), last.weight.numel())
        case _:
            logits = counted(step, state, lambda: module(x))
    state.masks[step.site] = mask_of(logits, state.thresholds.get(step.site, 0.0))


def mask_of(logits: Tensor, threshold: float) -> Tensor:
    """Which filters run. A logit that is no number lets one run, so that the output shows it."""
    return ~(logits <= threshold)


def exact(step: Gate) -> bool:
    """Whether a gate executes the MACs that are counted for it, no more."""
    return isinstance(step.module, (_PooledLinear, _Bottleneck, _Table))


def _product(step: Gate, state: State, layer: nn.Linear, values: Tensor, live: Rows) -> Tensor:
    values = values.to(layer.weight.dtype)
    outs = len(layer.weight)
    if live.mask is None:
        state.count(step, slice(None), layer.weight.numel())
        return F.linear(values, layer.weight, layer.bias)
    sums = layer.weight.sum(1)
    rows = []
    for sample in range(state.batch):
        index, own = live.index(sample), values[sample]
        if index is None:
            state.count(step, slice(sample, sample + 1), layer.weight.numel())
            rows.append(F.linear(own, layer.weight, layer.bias))
            continue
        dead = own[live.mask[sample].long().argmin()]
        kept = own.index_select(0, index) - dead
        product = layer.weight.index_select(1, index) @ kept
        state.count(step, slice(sample, sample + 1), outs * len(index))
        rows.append(layer.bias + dead * sums + product)
    return torch.stack(rows)
