"""Everything is computed, then masked: torch's own speed where skipping does not pay."""

from torch.nn import functional as F

from ftwt.runtime.backends import steps as plain
from ftwt.runtime.backends.gates import decide
from ftwt.runtime.program import Conv, Gate, Linear, Step
from ftwt.runtime.state import State


def run_step(step: Step, state: State) -> None:
    """Run one step with every filter and every input."""
    values, everyone = state.values, slice(None)
    match step:
        case Gate():
            decide(step, state, dense=True)
        case Conv():
            y = F.conv2d(
                values[step.source], step.weight, step.bias, step.stride, step.padding,
                step.dilation, step.groups,
            )  # fmt: skip
            state.count(step, everyone, step.weight.numel() * y.shape[2] * y.shape[3])
            y = plain.pooled(plain.activated_(y, step.activation), step.pool)
            # The mask comes last here: it commutes with pooling, and there is less of it then.
            if step.site is not None and not (y.device.type == "cpu" and _full(state, step.site)):
                y = plain.masked(y, state.masks[step.site])
            values[step.output] = y
        case Linear():
            x = values[step.source]
            if len(step.output.shape) == 1:
                x = x.flatten(1)
            y = F.linear(x, step.weight, step.bias)
            positions = y[0].numel() // len(step.weight)
            state.count(step, everyone, step.weight.numel() * positions)
            values[step.output] = plain.activated_(y, step.activation)
        case _:
            plain.run(step, state)


def _full(state: State, site: str) -> bool:
    """Looking takes less time than multiplying by one; not on a GPU, which would have to wait."""
    return state.filters(site).full
