"""What each operation of a graph does to channels that are zero.

Operations are told apart by the function, method or module type that a node calls, never by the
name of a class as a string.
"""

import operator
import sys
from collections.abc import Callable, Mapping
from enum import Enum, auto
from operator import getitem
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from ftwt.graph import calls
from ftwt.graph.channels import Select, Spread


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


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

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
_CONSTANT_PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_ELEMENTWISE_MODULES = (
    *_ZERO_ACTIVATIONS, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
    nn.LocalResponseNorm, nn.RMSNorm,
)  # fmt: skip
_SPATIAL_MODULES = (
    *_POOLS, nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d,
)  # fmt: skip
_MOVE_MODULES = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad1d, nn.CircularPad2d, nn.Unfold,
    Select, Spread,
)  # fmt: skip
_FRESH_MODULES = (
    *CONVOLUTIONS, *BATCH_NORMS, *_OTHER_ACTIVATIONS, nn.Linear, nn.LayerNorm, nn.GroupNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.MultiheadAttention,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Softmax, nn.LogSoftmax,
)  # fmt: skip

_ACTIVATION_FUNCTIONS = {
    F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish,
    F.hardswish, F.tanh, F.softsign, F.prelu, F.rrelu, F.tanhshrink, F.hardshrink, F.softshrink,
    F.leaky_relu_, F.elu_, F.celu_, F.selu_, torch.relu, torch.relu_, torch.tanh, torch.tanh_,
    torch.prelu, torch.selu, torch.celu,
}  # fmt: skip
_OTHER_ACTIVATION_FUNCTIONS = {
    F.sigmoid, F.hardsigmoid, F.softplus, F.logsigmoid, torch.sigmoid, torch.sigmoid_,
}  # fmt: skip
_ACTIVATIONS = {
    *_ACTIVATION_FUNCTIONS, *_OTHER_ACTIVATION_FUNCTIONS, F.hardtanh, F.hardtanh_,
}  # fmt: skip
_ACTIVATION_METHODS = {"relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_"}
_FUNCTIONS: dict[Any, Kind] = (
    dict.fromkeys(
        [
            getitem, torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze,
            torch.unsqueeze, torch.chunk, torch.split, torch.tensor_split, torch.unbind,
            torch.cat, torch.concat, torch.stack, torch.movedim, torch.swapaxes, torch.narrow,
            torch.flip, torch.roll, torch.unflatten, torch.clone, torch.index_select,
            torch.detach, torch.tile, torch.repeat_interleave, torch.swapdims,
            torch.moveaxis, torch.hstack, torch.functional.split, torch.select, torch.diagonal,
            F.unfold, F.pad,
            F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle,
        ],
        Kind.MOVE,
    )
    | dict.fromkeys(
        [
            *_ACTIVATION_FUNCTIONS, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout,
            torch.abs, torch.neg, operator.neg, operator.pos, operator.abs, torch.square,
            torch.sign, torch.sin, torch.tan, torch.asin, torch.atan, torch.sinh, torch.erf,
            torch.expm1, torch.log1p, torch.sqrt, torch.floor, torch.round, torch.ceil,
            torch.trunc, torch.nan_to_num, F.normalize, F.local_response_norm, F.rms_norm,
        ],
        Kind.ELEMENTWISE,
    )
    | dict.fromkeys(
        [
            F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
            F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d, F.adaptive_max_pool1d, F.max_pool3d,
            F.avg_pool3d, F.adaptive_avg_pool3d, F.adaptive_max_pool3d, F.lp_pool1d, F.lp_pool2d,
            torch.max_pool1d, torch.max_pool2d, torch.adaptive_avg_pool1d, F.interpolate,
            F.upsample,
        ],
        Kind.SPATIAL,
    )
    | dict.fromkeys([torch.mean, torch.sum, torch.amax, torch.amin], Kind.REDUCE)
    | dict.fromkeys(
        [operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub,
         torch.subtract, torch.maximum, torch.minimum, torch.hypot],
        Kind.UNION,
    )
    | dict.fromkeys([operator.mul, operator.imul, torch.mul, torch.multiply], Kind.INTERSECTION)
    | dict.fromkeys(
        [F.conv1d, F.conv2d, F.conv3d, torch.conv2d, F.linear, F.batch_norm, F.layer_norm,
         F.group_norm, F.instance_norm, F.conv_transpose1d, F.conv_transpose2d,
         F.conv_transpose3d, F.softmax, torch.softmax, F.log_softmax, torch.log_softmax,
         F.scaled_dot_product_attention, torch.matmul, torch.bmm, torch.einsum, operator.matmul,
         torch.cos, torch.cosh, torch.exp, torch.log, torch.cumsum, torch.batch_norm, torch.std,
         torch.var, *_OTHER_ACTIVATION_FUNCTIONS],
        Kind.FRESH,
    )
)  # fmt: skip
_METHODS: dict[str, Kind] = (
    dict.fromkeys(
        [
            "view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "chunk",
            "split", "tensor_split", "unbind", "contiguous", "expand", "narrow", "clone",
            "movedim", "moveaxis", "swapaxes", "swapdims", "flip", "roll", "unflatten", "detach",
            "repeat", "repeat_interleave", "tile", "expand_as", "view_as", "reshape_as",
            "index_select", "select", "unfold", "diagonal", "broadcast_to",
        ],
        Kind.MOVE,
    )
    | dict.fromkeys(
        [
            "relu", "relu_", "tanh", "tanh_", "prelu", "hardshrink", "float", "double", "half",
            "bfloat16", "to", "type_as", "type", "cpu", "cuda", "requires_grad_", "abs", "abs_",
            "neg", "neg_", "square", "square_", "sign", "sin", "tan", "sinh", "erf", "expm1",
            "log1p", "sqrt", "floor", "round", "ceil", "trunc", "nan_to_num",
        ],
        Kind.ELEMENTWISE,
    )
    | dict.fromkeys(["mean", "sum", "amax", "amin"], Kind.REDUCE)
    | dict.fromkeys(["add", "add_", "sub", "sub_", "subtract", "maximum", "minimum"], Kind.UNION)
    | dict.fromkeys(["mul", "mul_", "multiply", "multiply_"], Kind.INTERSECTION)
    | dict.fromkeys(
        [
            "sigmoid", "sigmoid_", "softmax", "log_softmax", "matmul", "bmm", "cos", "exp",
            "cumsum", "std", "var", "size", "dim", "numel",
        ],
        Kind.FRESH,
    )
)  # fmt: skip


def kind_of(node: fx.Node, module: nn.Module | None) -> Kind:
    """How zeros pass through the operation that `node` calls."""
    if node.op == "call_module":
        return _module_kind(module)
    if node.op == "call_function":
        if node.target in _CONDITIONAL_FUNCTIONS:
            return Kind.ELEMENTWISE if _CONDITIONAL_FUNCTIONS[node.target](node) else Kind.UNKNOWN
        if node.target is F.pad and not calls.pads_zeros(node):
            return Kind.UNKNOWN
        return _foreign_kind(node.target) or _FUNCTIONS.get(node.target, Kind.UNKNOWN)
    if node.op == "call_method":
        name = str(node.target)
        if name in _CONDITIONAL_METHODS:
            return Kind.ELEMENTWISE if _CONDITIONAL_METHODS[name](node) else Kind.UNKNOWN
        return _METHODS.get(name, Kind.UNKNOWN)
    return Kind.FRESH


def _foreign_kind(target: Any) -> Kind | None:
    """Functions of torchvision and timm, which are only there if they are imported."""
    vision = sys.modules.get("torchvision.ops")
    timm = timm_layers()
    known = [vision.stochastic_depth] if vision is not None else []
    known += [timm.drop_path] if timm is not None else []
    return Kind.ELEMENTWISE if target in known else None


def timm_layers() -> Any:
    """The layers of timm, if the network's user has imported timm; None otherwise."""
    return sys.modules.get("timm.layers")


def _module_kind(module: nn.Module | None) -> Kind:
    if module is None:
        return Kind.UNKNOWN
    kind = _zero_kind(module)
    if kind is Kind.UNKNOWN:
        # Other libraries' batch norms may have an activation inside; nothing is claimed of them.
        fresh = isinstance(module, BATCH_NORMS) or is_a(module, _FRESH_MODULES)
        return Kind.FRESH if fresh else kind
    return Kind.UNKNOWN if hooked(module) else kind


def _zero_kind(module: nn.Module) -> Kind:
    from torchvision.ops import StochasticDepth

    timm = timm_layers()
    dropping = (StochasticDepth, *((timm.DropPath, timm.DropBlock2d) if timm else ()))
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d() if is_a(module, CONVOLUTIONS):
            silent = module.groups == module.in_channels and module.bias is None
            return Kind.DEPTHWISE if silent else Kind.UNKNOWN
        case nn.Hardtanh() if is_a(module, (nn.Hardtanh,)):
            return Kind.ELEMENTWISE if module.min_val <= 0 <= module.max_val else Kind.UNKNOWN
        case nn.Threshold() if is_a(module, (nn.Threshold,)):
            kept = module.value == 0 or module.threshold < 0
            return Kind.ELEMENTWISE if kept else Kind.UNKNOWN
        case nn.ConstantPad1d() | nn.ConstantPad2d() | nn.ConstantPad3d() if module.value == 0:
            return Kind.MOVE if is_a(module, _CONSTANT_PADS) else Kind.UNKNOWN
        case _ if is_a(module, (*_ELEMENTWISE_MODULES, *dropping)):
            return Kind.ELEMENTWISE
        case _ if is_a(module, _SPATIAL_MODULES):
            return Kind.SPATIAL
        case _ if is_a(module, _MOVE_MODULES):
            return Kind.MOVE
        case _:
            return Kind.UNKNOWN


def is_a(module: nn.Module | None, types: tuple[type[nn.Module], ...]) -> bool:
    """Whether a module does what one of `types` does; a subclass may have a forward of its own."""
    return any(isinstance(module, one) and _runs_as(module, one) for one in types)


def _runs_as(module: nn.Module, known: type[nn.Module]) -> bool:
    kind = type(module)
    same = all(
        getattr(kind, name, None) is getattr(known, name, None)
        for name in ("__call__", "forward", "_conv_forward")
    )
    return same and "forward" not in vars(module)


def hooked(module: nn.Module | None) -> bool:
    """Whether a module has forward hooks, which may change what it reads and answers."""
    return module is not None and bool(module._forward_hooks or module._forward_pre_hooks)


def is_activation(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is an elementwise activation, of whichever value at zero."""
    if node.op == "call_module":
        return is_a(module, (*_ZERO_ACTIVATIONS, *_OTHER_ACTIVATIONS, nn.Hardtanh))
    if node.op == "call_function":
        return node.target in _ACTIVATIONS
    return node.op == "call_method" and node.target in _ACTIVATION_METHODS


def is_call(node: fx.Node, module: nn.Module | None, types: tuple[type[nn.Module], ...],
            functions: set[Callable[..., Any]]) -> bool:  # fmt: skip
    """Whether a node calls a module of one of `types`, or one of `functions`."""
    if node.op == "call_module":
        return is_a(module, types)
    return node.op == "call_function" and node.target in functions


# Functions that keep zero at zero for some arguments only.
_CONDITIONAL_FUNCTIONS: Mapping[Any, Callable[[fx.Node], bool]] = (
    dict.fromkeys([operator.truediv, operator.itruediv, torch.div, torch.divide,
                   torch.true_divide], calls.divides_by_number)
    | dict.fromkeys([operator.pow, torch.pow], calls.positive_power)
    | dict.fromkeys([F.hardtanh, F.hardtanh_, torch.clamp, torch.clip], calls.zero_in_range)
)  # fmt: skip
_CONDITIONAL_METHODS: Mapping[str, Callable[[fx.Node], bool]] = (
    dict.fromkeys(["div", "div_", "divide", "true_divide"], calls.divides_by_number)
    | dict.fromkeys(["pow", "pow_"], calls.positive_power)
    | dict.fromkeys(["clamp", "clamp_", "clip", "clip_"], calls.zero_in_range)
)


def describe(node: fx.Node, module: nn.Module | None) -> str:
    """The operation of a node, for a reader."""
    if module is not None:
        return type(module).__name__
    return getattr(node.target, "__name__", str(node.target))
