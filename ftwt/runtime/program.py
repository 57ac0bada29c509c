"""What a gated network does, as steps that a back end can run one by one.

A program is a list of steps over values. A value is a tensor (B, C, *space) of which some channels
are live for a sample; the others are zero. Masks are decided by `Gate` steps and read by all that
come later. Batch norms are folded into the convolutions before them.

What every back end may rely on, and has to keep, wherever values pass from one to another:
dead channels of a value are exactly zero, and every mask is a bool tensor (B, C).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, fx, nn

from ftwt.graph.live import Live
from ftwt.graph.operations import Activation as Activation

KEEP_ZERO: frozenset[Activation] = frozenset({"relu", "relu6", "hardswish", "silu"})
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
class Other:
    """What a call makes that is no value: a size, a tuple of tensors, a tensor without batch."""

    name: str


@dataclass(frozen=True, eq=False)
class ConstantValue:
    """What is known before any input comes.

    It is an attribute of the network, `path`, or what `run` makes of other constants. A program
    with gates has the values in the places of constants.
    """

    value: Any
    path: str | None = None
    run: Callable[..., Any] | None = None
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pool:
    """Two-dimensional pooling; "mean" divides by the window's whole size.

    With `ceil_mode`, for "max" alone, the last windows may end outside, as torch has it.
    """

    kind: Literal["max", "mean"]
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil_mode: bool = False


@dataclass(frozen=True, eq=False)
class GateStep:
    """Decides the mask of `site` from the site's input.

    `module` maps (B, C_in, *space) to logits (B, C_out); a filter runs where its logit is above
    the site's threshold, which is given with each call. A back end that knows the module's type
    may do the same without calling it.
    """

    site: str
    source: Value
    module: nn.Module
    out_channels: int
    # What all gates share, the module's second argument.
    context: Other | None = None


@dataclass(frozen=True, eq=False)
class GateRows:
    """Decides and applies the mask of a site of which each sample has several rows.

    Windows of an image, or a pair of images, lie one after the other in the batch: R rows of B
    samples. The site's convolution has run with every filter.
    """

    name: str
    site: str
    # Its input (R, C_in, *space), and its output (R, C_out, *space) before and after the mask.
    source: Other
    features: Other
    output: Other
    module: nn.Module
    context: Other | None = None


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
    """A linear layer that reads live inputs only.

    With an output (B, C_out) it reads the source flat, whatever its shape: channel by channel,
    each with its positions row by row. Otherwise it works along the source's last dimension.
    `inputs` are the live ones among C_in.
    """

    name: str
    source: Value
    inputs: Live
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
    """The product of (B, C, *space) with (B, C, *space) or (B, C, 1, 1), either one first."""

    name: str
    sources: tuple[Value, Value]
    output: Value


@dataclass(frozen=True, eq=False)
class Affine:
    """Each channel times its scale plus its shift, then activation: a batch norm by itself."""

    name: str
    source: Value
    output: Value
    scale: Float[Tensor, "C"]
    shift: Float[Tensor, "C"]
    activation: Activation | None = None


@dataclass(frozen=True, eq=False)
class MaskStep:
    """Sets to zero what `site`'s mask leaves out, where a step before it could not."""

    name: str
    source: Value
    output: Value
    site: str


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

    Every `stride`-th row and column from the first. Option-A shortcuts, slices, channel shuffles,
    and a vector made of a map of one position, or the other way round.
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
    """Any other operation, run by torch: `run(*arguments, **keywords)`.

    Arguments hold values and others in the places where the traced graph has nodes. `changes`
    says that it works in place on what it is given, `shared` that it does as much for any batch,
    `each` that it works on each channel of its one value alone, so that it may be given some.
    """

    name: str
    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: Value | Other
    changes: bool = False
    shared: bool = False
    each: bool = False


@dataclass(frozen=True)
class Method:
    """A method by its name, called as a function."""

    name: str

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """What the method of the first argument answers."""
        return getattr(args[0], self.name)(*args[1:], **keywords)


def same(value: Any) -> Any:
    """What it is given, as it is after a change in place."""
    return value


Step: TypeAlias = (
    GateStep
    | GateRows
    | Conv
    | Linear
    | Add
    | Multiply
    | Affine
    | MaskStep
    | Pooling
    | Pick
    | Concat
    | Activate
    | Call
)


@dataclass(frozen=True, eq=False)
class Program:
    """The steps in running order, from inputs to what `forward` returns.

    `result` is what `forward` returns, with values in place of tensors. `dtype` and `device` are
    the weights'. `masks` are known beforehand, (C,) each: those of sites that no step decides, and
    of steps that have a name of their own for a part of one.
    """

    inputs: tuple[Value | Other, ...]
    steps: tuple[Step, ...]
    result: Any
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    masks: Mapping[str, Bool[Tensor, "C"]] = field(default_factory=dict)


def sources_of(step: Step) -> tuple[Value | Other, ...]:
    """What a step reads, masks aside."""
    match step:
        case Add() | Multiply() | Concat():
            return step.sources
        case Call():
            return tuple(held((step.arguments, dict(step.keywords))))
        case GateStep(context=Other() as context):
            return step.source, context
        case GateRows():
            shared = () if step.context is None else (step.context,)
            return step.source, step.features, *shared
        case _:
            return (step.source,)


def output_of(step: Step) -> Value | Other | None:
    """What a step makes; a gate makes a mask only."""
    return None if isinstance(step, GateStep) else step.output


def held(structure: Any) -> Iterator[Value | Other]:
    """The values and others in nested arguments."""
    found: list[Value | Other] = []

    def note(leaf: Any) -> Any:
        if isinstance(leaf, (Value, Other)):
            found.append(leaf)
        return leaf

    fx.node.map_aggregate(structure, note)
    return iter(found)
