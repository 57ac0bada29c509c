"""Steps without weights, in torch: the same for every back end that runs in torch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ftwt.runtime.program import (
    Activate,
    Activation,
    Add,
    Affine,
    Call,
    Concat,
    MaskStep,
    Multiply,
    Other,
    Pick,
    Pool,
    Pooling,
    Step,
    Value,
    held,
)
from ftwt.runtime.state import RunState

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "relu6": lambda x: x.clamp_(0, 6),
    "hardswish": lambda x: F.hardswish(x, inplace=True),
    "silu": lambda x: F.silu(x, inplace=True),
    "hardsigmoid": lambda x: F.hardsigmoid(x, inplace=True),
    "sigmoid": torch.sigmoid_,
}


def activated_(x: Tensor, activation: Activation | None) -> Tensor:
    """Apply an activation in place, to a tensor that nobody else holds."""
    return x if activation is None else _ACTIVATIONS[activation](x)


def pooled(x: Tensor, pool: Pool | None) -> Tensor:
    """Pool, if there is something to pool."""
    if pool is None:
        return x
    function = F.max_pool2d if pool.kind == "max" else F.avg_pool2d
    made: Tensor = function(x, pool.kernel, pool.stride, pool.padding, ceil_mode=pool.ceil_mode)
    return made


def zeroed(x: Tensor, mask: Tensor) -> Tensor:
    """Zero where the mask (B, C) is not set."""
    return x * mask.view(*mask.shape, *(1,) * (x.dim() - 2))


def run_unweighted(step: Step, state: RunState) -> None:
    """Run a step that has no weights of channels by channels."""
    values = state.values
    match step:
        case Add():
            total = values[step.sources[0]] + values[step.sources[1]]
            values[step.output] = activated_(total, step.activation)
        case Multiply():
            values[step.output] = values[step.sources[0]] * values[step.sources[1]]
        case Affine():
            shape = (1, -1, *(1,) * (len(step.output.shape) - 1))
            scaled = values[step.source] * step.scale.view(shape) + step.shift.view(shape)
            values[step.output] = activated_(scaled, step.activation)
        case MaskStep():
            values[step.output] = zeroed(values[step.source], state.masks[step.site])
        case Pooling():
            made = pooled(values[step.source], step.pool)
            if step.pool is None:
                made = made.mean((2, 3), keepdim=len(step.output.shape) == 3)
            values[step.output] = made
        case Pick():
            x = values[step.source]
            values[step.output] = _picked(x, step).reshape(len(x), *step.output.shape).contiguous()
        case Concat():
            values[step.output] = torch.cat([values[one] for one in step.sources], 1)
        case Activate():
            values[step.output] = activated_(values[step.source].clone(), step.activation)
        case Call():
            values[step.output] = _called(step, state)
        case _:
            raise TypeError(type(step).__name__)


def _picked(x: Tensor, step: Pick) -> Tensor:
    if x.dim() == 4:
        x = x[:, :, :: step.stride[0], :: step.stride[1]]
    around = (0, 0) * (x.dim() - 2)
    first = next((place for place, one in enumerate(step.index) if one), 0)
    run = [one for one in step.index if one]
    whole = tuple(range(run[0], run[0] + len(run))) if run else ()
    if run and step.index[first : first + len(run)] == whole:
        # A run of channels, with zeros around it.
        part = x[:, run[0] - 1 : run[-1]]
        return F.pad(part, (*around, first, len(step.index) - first - len(run)))
    index = torch.tensor(step.index, device=x.device)
    return F.pad(x, (*around, 1, 0)).index_select(1, index)


def _called(step: Call, state: RunState) -> Any:
    def fill(leaf: Any) -> Any:
        return state.values[leaf] if isinstance(leaf, (Value, Other)) else leaf

    # Code that asks for views counts on the form that the network itself would give it.
    for one in held((step.arguments, dict(step.keywords))):
        tensor = state.values[one]
        if isinstance(tensor, Tensor) and is_channels_last(tensor):
            state.values[one] = tensor.contiguous()
    args = fx.node.map_aggregate(step.arguments, fill)
    keywords = fx.node.map_aggregate(dict(step.keywords), fill)
    return counted(step, state, lambda: step.run(*args, **keywords))


def is_channels_last(x: Tensor) -> bool:
    """Whether a tensor has its channels innermost."""
    return (
        x.dim() == 4
        and not x.is_contiguous()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def counted(step: Step, state: RunState, run: Callable[[], Any]) -> Any:
    """Run what only torch can count."""
    if state.executed is None:
        return run()
    with FlopCounterMode(display=False) as counter:
        result = run()
    # One sample by itself would need all of what a batch shares.
    share = 1 if isinstance(step, Call) and step.shared else state.batch
    if counter.get_total_flops():
        state.count(step, slice(None), counter.get_total_flops() // 2 // share)
    return result
