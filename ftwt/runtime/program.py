"""What a gated network does, as steps that a back end can run one by one.

A program is a list of steps over values. A value is a tensor (B, C, *space) of which some channels
are live for a sample; the others are zero. Masks are decided by `Gate` steps and read by all that
come later. Batch norms are folded into the convolutions before them.

What every back end may rely on, and has to keep, wherever values pass from one to another:
dead channels of a value are exactly zero, and every mask is a bool tensor (B, C).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor, fx, nn

from ftwt.live import Live

Activation = Literal["relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid"]
Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor between steps. `shape` is one sample's, (C, *space); compared by identity.

    `live` says which channels can be non-zero, as an expression over the sites' masks.
    """

    name: str
    shape: tuple[int, ...]
    live: Live


@dataclass(frozen=True, eq=False)
class Pool:
    """Two-dimensional pooling; "mean" divides by the window's whole size."""

    kind: Literal["max", "mean"]
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class Gate:
    """Decides the mask of `site` from the site's input.

    `module` maps (B, C_in, *space) to logits (B, C_out); a filter runs where its logit is above
    `threshold`. A back end that knows the module's type may do the same without calling it.
    """

    site: str
    source: Value
    module: nn.Module
    threshold: float = 0.0


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution with its batch norm folded in, then activation, mask and pooling.

    Reads the source's live channels only; makes the filters of `site`'s mask only, or all of them
    if `site` is None. A filter that runs has its bias also where all its inputs are dead.
    `pool` follows the mask, on the filters that ran.
    """

    name: str
    source: Value
    output: Value
    weight: Float[Tensor, "C_out C_in_per_group kh kw"]
    bias: Float[Tensor, "C_out"]
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    activation: Activation | None
    site: str | None
    pool: Pool | None = None


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer over a flat value (B, C_in); reads live inputs only."""

    name: str
    source: Value
    output: Value
    weight: Float[Tensor, "C_out C_in"]
    bias: Float[Tensor, "C_out"]
    activation: Activation | None = None


@dataclass(frozen=True, eq=False)
class Add:
    """The sum of values of one shape, then an activation that keeps zero at zero."""

    name: str
    sources: tuple[Value, ...]
    output: Value
    activation: Activation | None = None


@dataclass(frozen=True, eq=False)
class Multiply:
    """The product of (B, C, *space) with (B, C, *space) or (B, C, 1, 1)."""

    name: str
    sources: tuple[Value, Value]
    output: Value


@dataclass(frozen=True, eq=False)
class Pooling:
    """Pooling by itself. `pool` None is the mean over all of space, kept as 1x1 or flattened."""

    name: str
    source: Value
    output: Value
    pool: Pool | None


@dataclass(frozen=True, eq=False)
class Pick:
    """Channels and positions moved: output channel i is source channel index[i] - 1, 0 is zeros.

    Every `stride`-th row and column from the first. Option-A shortcuts, slices, channel shuffles.
    """

    name: str
    source: Value
    output: Value
    index: tuple[int, ...]
    stride: Pair = (1, 1)


@dataclass(frozen=True, eq=False)
class Concat:
    """Values one after the other along the channels."""

    name: str
    sources: tuple[Value, ...]
    output: Value


@dataclass(frozen=True, eq=False)
class Activate:
    """An activation by itself; one that does not keep zero at zero makes every channel live."""

    name: str
    source: Value
    output: Value
    activation: Activation


@dataclass(frozen=True, eq=False)
class Call:
    """Any other operation, run by torch as the traced graph says.

    `arguments` and `keywords` are the node's own, with each tensor that a step made in place of
    its node. `output` is None where the result is no tensor (a shape, a tuple of tensors); then
    `name` alone holds it for the calls that read it.
    """

    name: str
    node: fx.Node
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: Value | None


Step: TypeAlias = Gate | Conv | Linear | Add | Multiply | Pooling | Pick | Concat | Activate | Call


@dataclass(frozen=True, eq=False)
class Program:
    """The steps in running order, from inputs to what `forward` returns.

    `result` is the traced graph's output with values in place of nodes.
    """

    inputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    result: Any
