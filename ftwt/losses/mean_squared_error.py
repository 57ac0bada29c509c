"""The task's loss for regression."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.losses.interface import TracedPass, add, add_to, need_labels, scaled


@dataclass(frozen=True)
class MeanSquaredError:
    """Mean over all numbers of (output - label)^2."""

    __add__, __radd__ = add, add_to
    __mul__ = __rmul__ = scaled

    def __call__(self, trace: TracedPass, labels: Any = None) -> Float[Tensor, ""]:
        """Return the loss, in the labels' unit squared."""
        wanted = need_labels("MeanSquaredError", labels)
        numbers, wanted = need_numbers("MeanSquaredError", trace.output, wanted)
        return (numbers - wanted).square().mean()


def need_numbers(called: str, output: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Output and labels in float32, or a clear error where they are not of one shape.

    Shapes that broadcast, such as (B, 1) and (B,), would compare each image with all.
    """
    tensors = [one for one in (output, labels) if isinstance(one, Tensor)]
    if len(tensors) < 2 or output.shape != labels.shape or not output.is_floating_point():
        came = [
            f"of shape {tuple(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
            for one in (output, labels)
        ]
        raise FtwtError(
            f"{called}: the network's output is {came[0]}, the labels are {came[1]}; expected "
            "numbers of one shape, reshape one of them"
        )
    return output.float(), labels.to(output.device).float()
