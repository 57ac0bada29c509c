"""Everything is computed, then masked: torch's own speed where skipping does not pay."""

from torch import Tensor
from torch.nn import functional as F

from ftwt.runtime.backends import steps as plain
from ftwt.runtime.backends.gates import decide, decide_rows
from ftwt.runtime.program import Conv, GateRows, GateStep, Linear, Step
from ftwt.runtime.state import RunState


def run_dense(step: Step, state: RunState) -> None:
    """Run one step with every filter and every input."""
    values, everyone = state.values, slice(None)
    match step:
        case GateStep():
            decide(step, state, dense=True)
        case GateRows():
            decide_rows(step, state)
        case Conv():
            convolve(step, step.weight, state)
        case Linear():
            x = values[step.source]
            if len(step.output.shape) == 1:
                x = x.flatten(1)
            y = F.linear(x, step.weight, step.bias)
            positions = y[0].numel() // len(step.weight)
            state.count(step, everyone, step.weight.numel() * positions)
            values[step.output] = plain.activated_(y, step.activation)
        case _:
            plain.run_unweighted(step, state)


def convolve(step: Conv, weight: Tensor, state: RunState) -> None:
    """Run a convolution with every filter; `weight` is the step's, in whatever form of memory."""
    y = F.conv2d(
        state.values[step.source], weight, step.bias, step.stride, step.padding,
        step.dilation, step.groups,
    )  # fmt: skip
    state.count(step, slice(None), weight.numel() * y.shape[2] * y.shape[3])
    y = plain.pooled(plain.activated_(y, step.activation), step.pool)
    # The mask comes last here: it commutes with pooling, and there is less of it then.
    if step.site is not None and not (y.device.type == "cpu" and _full(state, step.site)):
        y = plain.zeroed(y, state.masks[step.site])
    state.values[step.output] = y


def _full(state: RunState, site: str) -> bool:
    """Looking takes less time than multiplying by one; not on a GPU, which would have to wait."""
    return state.filters(site).full
