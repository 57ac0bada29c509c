"""What each operation of a graph does to channels that are zero.

Operations are told apart by the function, method or module type that a node calls, never by the
name of a class as a string.
"""

import operator
from collections.abc import Callable
from enum import Enum, auto
from operator import getitem
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F


class Kind(Enum):
    """How zeros pass through an operation."""

    MOVE = auto()  # moves elements, makes none
    ELEMENTWISE = auto()  # keeps zero at zero, element by element
    SPATIAL = auto()  # keeps a channel of zeros, channel by channel
    REDUCE = auto()  # SPATIAL, if only spatial dimensions are reduced
    UNION = auto()  # zero where all operands are zero
    INTERSECTION = auto()  # zero where any operand is zero
    FRESH = auto()  # known to make every channel live
    UNKNOWN = auto()


CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# Each keeps zero at zero: f(0) = 0.
_ZERO_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU,
    nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Softsign, nn.Tanhshrink, nn.Hardshrink,
    nn.Softshrink,
)  # fmt: skip
_OTHER_ACTIVATIONS = (nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid, nn.Threshold)
_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.LPPool1d, nn.LPPool2d,
)  # fmt: skip
_ELEMENTWISE_MODULES = (
    *_ZERO_ACTIVATIONS, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
_SPATIAL_MODULES = (
    *_POOLS, nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d,
)  # fmt: skip
_MOVE_MODULES = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d,
    nn.ReplicationPad1d, nn.ReplicationPad2d,
)  # fmt: skip
_FRESH_MODULES = (
    *CONVOLUTIONS, *BATCH_NORMS, *_OTHER_ACTIVATIONS, nn.Linear, nn.LayerNorm, nn.GroupNorm,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Softmax, nn.LogSoftmax,
)  # fmt: skip

_ACTIVATION_FUNCTIONS = {
    F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish,
    F.hardswish, F.tanh, F.softsign, torch.relu, torch.relu_, torch.tanh,
}  # fmt: skip
_OTHER_ACTIVATION_FUNCTIONS = {F.sigmoid, F.hardsigmoid, F.softplus, torch.sigmoid}
_FUNCTIONS: dict[Any, Kind] = (
    dict.fromkeys(
        [
            getitem, torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze,
            torch.unsqueeze, torch.chunk, torch.split, torch.tensor_split, torch.unbind,
            torch.cat, torch.concat, torch.stack, torch.movedim, torch.swapaxes, torch.narrow,
            torch.flip, torch.roll, torch.unflatten, torch.clone, torch.index_select, F.pad,
            F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle,
        ],
        Kind.MOVE,
    )
    | dict.fromkeys(
        [
            *_ACTIVATION_FUNCTIONS, F.dropout, F.dropout2d, torch.abs, torch.neg, operator.neg,
            torch.square, torch.sign, operator.truediv, torch.div, torch.true_divide,
        ],
        Kind.ELEMENTWISE,
    )
    | dict.fromkeys(
        [
            F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
            F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d, F.lp_pool2d, torch.max_pool2d,
            F.interpolate,
        ],
        Kind.SPATIAL,
    )
    | dict.fromkeys([torch.mean, torch.sum, torch.amax], Kind.REDUCE)
    | dict.fromkeys(
        [operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub,
         torch.maximum, torch.minimum],
        Kind.UNION,
    )
    | dict.fromkeys([operator.mul, operator.imul, torch.mul, torch.multiply], Kind.INTERSECTION)
    | dict.fromkeys(
        [F.conv1d, F.conv2d, F.conv3d, torch.conv2d, F.linear, F.batch_norm, F.layer_norm,
         F.group_norm, F.softmax, torch.softmax, *_OTHER_ACTIVATION_FUNCTIONS],
        Kind.FRESH,
    )
)  # fmt: skip
_METHODS: dict[str, Kind] = (
    dict.fromkeys(
        [
            "view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "chunk",
            "split", "tensor_split", "unbind", "contiguous", "expand", "narrow", "clone",
            "movedim", "swapaxes", "flip", "roll", "unflatten", "detach", "repeat", "expand_as",
        ],
        Kind.MOVE,
    )
    | dict.fromkeys(
        [
            "relu", "relu_", "tanh", "tanh_", "float", "half", "bfloat16", "to", "type_as", "abs",
            "neg", "square", "div", "div_", "type",
        ],
        Kind.ELEMENTWISE,
    )
    | dict.fromkeys(["mean", "sum", "amax"], Kind.REDUCE)
    | dict.fromkeys(["add", "add_", "sub", "sub_"], Kind.UNION)
    | dict.fromkeys(["mul", "mul_"], Kind.INTERSECTION)
    | dict.fromkeys(["sigmoid", "sigmoid_", "softmax"], Kind.FRESH)
    | dict.fromkeys(["size", "dim", "numel"], Kind.FRESH)
)  # fmt: skip


def kind_of(node: fx.Node, module: nn.Module | None) -> Kind:
    """How zeros pass through the operation that `node` calls."""
    if node.op == "call_module":
        return _module_kind(module)
    if node.op == "call_function":
        kind = _FUNCTIONS.get(node.target, Kind.UNKNOWN)
        if node.target is F.pad and not _pads_zeros(node):
            return Kind.UNKNOWN
        return kind
    if node.op == "call_method":
        return _METHODS.get(str(node.target), Kind.UNKNOWN)
    return Kind.FRESH


def _module_kind(module: nn.Module | None) -> Kind:
    from torchvision.ops import StochasticDepth

    match module:
        case nn.Hardtanh() if module.min_val <= 0 <= module.max_val:
            return Kind.ELEMENTWISE
        case StochasticDepth():
            return Kind.ELEMENTWISE
        case _ if isinstance(module, _ELEMENTWISE_MODULES):
            return Kind.ELEMENTWISE
        case _ if isinstance(module, _SPATIAL_MODULES):
            return Kind.SPATIAL
        case _ if isinstance(module, _MOVE_MODULES):
            return Kind.MOVE
        case _ if isinstance(module, _FRESH_MODULES):
            return Kind.FRESH
        case _:
            return Kind.UNKNOWN


def is_activation(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is an elementwise activation, of whichever value at zero."""
    if node.op == "call_module":
        return isinstance(module, (*_ZERO_ACTIVATIONS, *_OTHER_ACTIVATIONS, nn.Hardtanh))
    if node.op == "call_function":
        return node.target in _ACTIVATION_FUNCTIONS | _OTHER_ACTIVATION_FUNCTIONS
    return node.op == "call_method" and node.target in {"relu", "relu_", "sigmoid", "tanh"}


def is_call(node: fx.Node, module: nn.Module | None, types: tuple[type, ...],
            functions: set[Callable[..., Any]]) -> bool:  # fmt: skip
    """Whether a node calls a module of one of `types`, or one of `functions`."""
    if node.op == "call_module":
        return isinstance(module, types)
    return node.op == "call_function" and node.target in functions


def source(node: fx.Node) -> fx.Node | None:
    """The tensor that an operation of one tensor works on."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    return first if isinstance(first, fx.Node) else None


def operands(node: fx.Node) -> tuple[Any, ...]:
    """The two sides of a binary operation."""
    named = [node.kwargs[name] for name in ("input", "other") if name in node.kwargs]
    return (*node.args[:2], *named)


def reduces_space(node: fx.Node, rank: int) -> bool:
    """Whether a reduction of a tensor of `rank` dimensions leaves batch and channels alone."""
    dims: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    listed: list[Any] = list(dims) if isinstance(dims, (list, tuple)) else [dims]
    return all(isinstance(dim, int) and dim % rank >= 2 for dim in listed)


def _pads_zeros(node: fx.Node) -> bool:
    mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    return bool(mode != "constant" or value in (None, 0, 0.0))


def describe(node: fx.Node, module: nn.Module | None) -> str:
    """The operation of a node, for a reader."""
    if module is not None:
        return type(module).__name__
    return getattr(node.target, "__name__", str(node.target))
