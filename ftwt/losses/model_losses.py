"""The losses that a network computes by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.losses.interface import TracedPass, add, add_to, scaled


@dataclass(frozen=True)
class ModelLosses:
    """Sum of the losses that a network returns by name, as torchvision's detectors do to train."""

    __add__, __radd__ = add, add_to
    __mul__ = __rmul__ = scaled

    def __call__(self, trace: TracedPass, labels: Any = None) -> Float[Tensor, ""]:
        """Return the sum; labels are not used."""
        output = trace.output
        if (
            not isinstance(output, Mapping)
            or not output
            or not all(isinstance(one, Tensor) and not one.dim() for one in output.values())
        ):
            raise FtwtError(
                f"ModelLosses: the network's output is {type(output).__name__}, expected losses by "
                "name, as torchvision's detectors return them in training mode when they are "
                "shown targets"
            )
        return torch.stack([one.float() for one in output.values()]).sum()
