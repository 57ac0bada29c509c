"""What can be said of an operation."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

from torch import fx

Activation = Literal["relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid"]


class Kind(Enum):
    """How zeros pass through an operation."""

    MOVE = auto()  # moves elements, makes none
    ELEMENTWISE = auto()  # keeps zero at zero, element by element
    SPATIAL = auto()  # keeps a channel of zeros, channel by channel
    REDUCE = auto()  # SPATIAL, if only spatial dimensions are reduced
    UNION = auto()  # zero where all operands are zero
    INTERSECTION = auto()  # zero where any operand is zero
    DEPTHWISE = auto()  # zero where the one input channel is: depthwise convolution, no bias
    FRESH = auto()  # known to make every channel live
    UNKNOWN = auto()


class Role(Enum):
    """What a program has a step for, or no step at all."""

    CONVOLUTION = auto()  # two-dimensional
    LINEAR = auto()
    BATCH_NORM = auto()
    ADD = auto()
    MULTIPLY = auto()
    CONCAT = auto()  # along a dimension that is there
    MAX_POOL = auto()  # two-dimensional, as the three that follow
    MEAN_POOL = auto()
    ADAPTIVE_MAX = auto()
    ADAPTIVE_MEAN = auto()
    MEAN = auto()
    DROP = auto()  # nothing, in eval mode
    SAME = auto()  # nothing
    COPY = auto()  # the same, made contiguous or in memory of its own


@dataclass(frozen=True)
class Operation:
    """What is known of an operation, whether a module, a function or a method.

    `kind` holds of calls of which `when(node, module)` does, or of all; else it is `otherwise`.
    """

    kind: Kind
    role: Role | None = None
    when: Callable[..., bool] | None = None
    otherwise: Kind = Kind.UNKNOWN
    # The activation that programs know it as, and whether it may be a site's activation.
    activation: Activation | None = None
    activates: bool = False
    # Dimensions after batch and channels; a tensor with one less is read as a single sample, and
    # its samples as channels.
    space: int | None = None
    # Its zeros pass channel by channel, its values do not.
    mixes: bool = False
    # The argument that has to differ from zero for the result to be finite, by node and module.
    pole: Callable[..., Any] | None = None
    # Whether a result is kept from zero; None if as far as the operand is.
    apart: Callable[[fx.Node], bool | None] | None = None
    # Place, name and default of the argument that says whether it is training.
    training: tuple[int, str, bool] | None = None
