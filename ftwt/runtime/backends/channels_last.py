"""Dense with channels innermost, as torch's CPU convolutions like large batches."""

from collections.abc import Sequence
from functools import partial

import torch

from ftwt.runtime.backends import dense
from ftwt.runtime.backends.interface import Runnable
from ftwt.runtime.program import Conv, Step, Value


class ChannelsLast:
    """Everything is computed, then masked; from convolution to convolution in torch's NHWC form.

    Torch keeps that form through what lies between, and converts tensors that come in another one.
    """

    name = "channels-last"
    fuses = False
    dense = True
    whole = True
    runs_on = frozenset({(torch.float32, "cpu")})

    def takes(self, step: Step) -> bool:
        """Return True."""
        return True

    def prepare(self, steps: Sequence[Step], writes: Sequence[Value], batch: int) -> Runnable:
        """Turn a convolution's weights."""
        (step,) = steps
        if isinstance(step, Conv) and step.weight.dim() == 4:
            turned = step.weight.contiguous(memory_format=torch.channels_last)
            return partial(dense.convolve, step, turned)
        return partial(dense.run_dense, step)
