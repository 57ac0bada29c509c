"""The one table of operations: modules, functions and methods, each in exactly one row.

Liveness, sites, lowering and cutting all read it, so they cannot disagree on what a node does.
Operations are told apart by the function, method or module type that a node calls, never by the
name of a class as a string.
"""

import operator
import sys
from collections.abc import Callable, Mapping
from operator import getitem
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ftwt.graph import calls
from ftwt.graph.channels import Select, Spread
from ftwt.graph.operations.kinds import Activation, Kind, Operation, Role

_EPSILON = calls.positive(4, "eps", default=1e-5)
_K = calls.positive(4, "k", default=1.0)
_RMS = calls.positive(3, "eps", default=1e-5)
_NORM_EPSILON = calls.positive(3, "eps", default=1e-12)
_NORM = calls.both(_NORM_EPSILON, calls.positive(1, "p", default=2.0))
_LP = calls.positive(1, "norm_type", default=2.0)


def _activation(name: Activation | None = None, kind: Kind = Kind.ELEMENTWISE) -> Operation:
    return Operation(kind, activation=name, activates=True)


def _pool(space: int | None, role: Role | None = None) -> Operation:
    return Operation(Kind.SPATIAL, role, space=space)


def _conv(space: int, role: Role | None = None) -> Operation:
    return Operation(
        Kind.DEPTHWISE, role, calls.silent_depthwise, otherwise=Kind.FRESH, space=space
    )


def _drop(place: int, name: str, default: bool) -> Operation:
    return Operation(Kind.ELEMENTWISE, Role.DROP, training=(place, name, default))


_ROWS: tuple[tuple[Operation, tuple[Any, ...]], ...] = (
    # Activations that keep zero at zero.
    (_activation("relu"), (nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")),
    (_activation("relu6"), (nn.ReLU6, F.relu6)),
    (_activation("hardswish"), (nn.Hardswish, F.hardswish)),
    (_activation("silu"), (nn.SiLU, F.silu)),
    (
        _activation(),
        (
            nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.Mish, nn.Tanh,
            nn.Softsign, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, F.leaky_relu, F.leaky_relu_,
            F.elu, F.elu_, F.celu, F.celu_, F.selu, F.selu_, F.gelu, F.mish, F.tanh, F.softsign,
            F.prelu, F.rrelu, F.tanhshrink, F.hardshrink, F.softshrink, torch.tanh, torch.tanh_,
            torch.prelu, torch.selu, torch.celu, "tanh", "tanh_",
        ),
    ),
    (
        Operation(Kind.ELEMENTWISE, when=calls.zero_in_range, activates=True),
        (nn.Hardtanh, F.hardtanh, F.hardtanh_),
    ),
    (
        Operation(Kind.ELEMENTWISE, None, calls.zero_below, Kind.FRESH, activates=True),
        (nn.Threshold,),
    ),
    # Those that do not.
    (
        Operation(Kind.FRESH, activation="sigmoid", activates=True, apart=calls.always),
        (nn.Sigmoid, F.sigmoid, torch.sigmoid, torch.sigmoid_, "sigmoid", "sigmoid_"),
    ),
    (_activation("hardsigmoid", Kind.FRESH), (nn.Hardsigmoid, F.hardsigmoid)),
    (
        Operation(Kind.FRESH, activates=True, apart=calls.always),
        (nn.Softplus, F.softplus),
    ),
    (_activation(None, Kind.FRESH), (nn.LogSigmoid, F.logsigmoid)),
    # Element by element.
    (
        Operation(Kind.ELEMENTWISE),
        (
            "float", "double", "half", "bfloat16", "to", "type_as", "type", "cpu", "cuda",
            "requires_grad_", "prelu", "hardshrink", torch.abs, operator.abs, "abs", "abs_",
            torch.neg, operator.neg, operator.pos, "neg", "neg_", torch.sign, "sign", torch.sin,
            "sin", torch.tan, "tan", torch.asin, torch.atan, torch.sinh, "sinh", torch.erf, "erf",
            torch.expm1, "expm1", torch.log1p, "log1p", torch.floor, "floor", torch.round, "round",
            torch.ceil, "ceil", torch.trunc, "trunc", torch.nan_to_num, "nan_to_num",
        ),
    ),
    (
        Operation(Kind.ELEMENTWISE, apart=calls.passes_zeros),
        (torch.square, "square", "square_", torch.sqrt, "sqrt"),
    ),
    (
        Operation(Kind.ELEMENTWISE, when=calls.zero_in_range, apart=calls.clamped_above_zero),
        (torch.clamp, torch.clip, "clamp", "clamp_", "clip", "clip_"),
    ),
    (
        Operation(Kind.ELEMENTWISE, when=calls.divides_by_number, pole=calls.divisor),
        (
            operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide, "div",
            "div_", "divide", "true_divide",
        ),
    ),
    (
        Operation(
            Kind.ELEMENTWISE,
            when=calls.positive_power,
            pole=calls.base,
            apart=calls.numbered_power,
        ),
        (operator.pow, torch.pow, "pow", "pow_"),
    ),
    (
        _drop(2, "training", True),
        (
            nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, F.dropout, F.dropout1d,
            F.dropout2d, F.dropout3d,
        ),
    ),
    (_drop(2, "train", True), (torch.dropout,)),
    # Zeros stay, and everything else depends on neighbours.
    (
        Operation(Kind.ELEMENTWISE, when=_K, mixes=True, pole=calls.itself_unless(_K)),
        (nn.LocalResponseNorm, F.local_response_norm),
    ),
    (
        Operation(Kind.ELEMENTWISE, when=_RMS, mixes=True, pole=calls.itself_unless(_RMS)),
        (nn.RMSNorm, F.rms_norm),
    ),
    (
        Operation(Kind.ELEMENTWISE, when=_NORM, mixes=True, pole=calls.itself_unless(_NORM)),
        (F.normalize,),
    ),
    # Channel by channel.
    (_pool(2, Role.MAX_POOL), (nn.MaxPool2d, F.max_pool2d, torch.max_pool2d)),
    (_pool(2, Role.MEAN_POOL), (nn.AvgPool2d, F.avg_pool2d)),
    (_pool(2, Role.ADAPTIVE_MAX), (nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d)),
    (_pool(2, Role.ADAPTIVE_MEAN), (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d)),
    (
        _pool(1),
        (
            nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, F.max_pool1d,
            F.avg_pool1d, F.adaptive_avg_pool1d, F.adaptive_max_pool1d, torch.max_pool1d,
            torch.adaptive_avg_pool1d,
        ),
    ),
    (
        _pool(3),
        (
            nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d, F.max_pool3d,
            F.avg_pool3d, F.adaptive_avg_pool3d, F.adaptive_max_pool3d,
        ),
    ),
    (Operation(Kind.SPATIAL, when=_LP, space=1), (nn.LPPool1d, F.lp_pool1d)),
    (Operation(Kind.SPATIAL, when=_LP, space=2), (nn.LPPool2d, F.lp_pool2d)),
    (
        _pool(None),
        (
            nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d, F.interpolate, F.upsample,
        ),
    ),
    (Operation(Kind.REDUCE, Role.MEAN, apart=calls.passes_zeros), (torch.mean, "mean")),
    (Operation(Kind.REDUCE), (torch.sum, "sum", torch.amax, "amax", torch.amin, "amin")),
    # Of two tensors.
    (
        Operation(Kind.UNION, Role.ADD, apart=calls.adds_number),
        (operator.add, operator.iadd, torch.add, "add", "add_"),
    ),
    (
        Operation(Kind.UNION),
        (
            operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_", "subtract",
            torch.maximum, "maximum", torch.minimum, "minimum", torch.hypot,
        ),
    ),
    (
        Operation(Kind.INTERSECTION, Role.MULTIPLY, calls.finite_factors),
        (
            operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply",
            "multiply_",
        ),
    ),
    # What moves elements; what it does is read off a run on labels.
    (Operation(Kind.MOVE, Role.SAME), (nn.Identity, torch.detach, "detach")),
    (
        Operation(Kind.MOVE, Role.COPY, apart=calls.passes_zeros),
        (torch.clone, "clone", "contiguous"),
    ),
    (Operation(Kind.MOVE, Role.CONCAT), (torch.cat, torch.concat, torch.concatenate)),
    (
        Operation(Kind.MOVE, apart=calls.passes_zeros),
        (
            Select, getitem, torch.reshape, torch.flatten, torch.unsqueeze, "view", "reshape",
            "flatten", "unsqueeze", "expand", "expand_as",
        ),
    ),
    (
        Operation(Kind.MOVE, when=calls.pads_zeros),
        (
            F.pad, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, nn.ZeroPad1d, nn.ZeroPad2d,
            nn.ZeroPad3d,
        ),
    ),
    (
        Operation(Kind.MOVE),
        (
            torch.permute, torch.transpose, torch.squeeze, torch.chunk, torch.split,
            torch.tensor_split, torch.unbind, torch.stack, torch.movedim, torch.swapaxes,
            torch.narrow, torch.flip, torch.roll, torch.unflatten, torch.index_select, torch.tile,
            torch.repeat_interleave, torch.swapdims, torch.moveaxis, torch.hstack,
            torch.functional.split, torch.select, torch.diagonal, F.unfold, F.pixel_shuffle,
            F.pixel_unshuffle, F.channel_shuffle, "permute", "transpose", "squeeze", "chunk",
            "split", "tensor_split", "unbind", "narrow", "movedim", "moveaxis", "swapaxes",
            "swapdims", "flip", "roll", "unflatten", "repeat", "repeat_interleave", "tile",
            "view_as", "reshape_as", "index_select", "select", "unfold", "diagonal", "broadcast_to",
            nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
            nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d,
            nn.CircularPad1d, nn.CircularPad2d, nn.Unfold, Spread,
        ),
    ),
    # What makes every channel live.
    (_conv(1), (nn.Conv1d, F.conv1d, torch.conv1d)),
    (_conv(2, Role.CONVOLUTION), (nn.Conv2d, F.conv2d, torch.conv2d)),
    (_conv(3), (nn.Conv3d, F.conv3d, torch.conv3d)),
    (Operation(Kind.FRESH, Role.LINEAR), (nn.Linear, F.linear)),
    (
        Operation(Kind.FRESH, Role.BATCH_NORM),
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, F.batch_norm),
    ),
    (
        Operation(Kind.FRESH, mixes=True, pole=calls.itself_unless(_EPSILON)),
        (
            nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
            F.layer_norm, F.group_norm,
        ),
    ),
    (
        Operation(Kind.FRESH, apart=calls.always),
        (torch.exp, "exp", torch.softmax, F.softmax, nn.Softmax, "softmax"),
    ),
    (
        Operation(Kind.FRESH, pole=calls.itself),
        (
            torch.log, "log", "log_", torch.log2, "log2", torch.log10, "log10", torch.logit,
            "logit", torch.reciprocal, "reciprocal", "reciprocal_", torch.rsqrt, "rsqrt", "rsqrt_",
        ),
    ),
    (
        Operation(Kind.UNKNOWN, pole=calls.divisor),
        (
            operator.floordiv, operator.mod, torch.floor_divide, "floor_divide", torch.remainder,
            "remainder", torch.fmod, "fmod",
        ),
    ),
    (
        Operation(Kind.FRESH),
        (
            nn.MultiheadAttention, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
            nn.LogSoftmax, F.instance_norm, F.conv_transpose1d, F.conv_transpose2d,
            F.conv_transpose3d, F.log_softmax, torch.log_softmax, "log_softmax",
            F.scaled_dot_product_attention, torch.matmul, operator.matmul, "matmul", torch.bmm,
            "bmm", torch.einsum, torch.cos, "cos", torch.cosh, torch.cumsum, "cumsum",
            torch.batch_norm, torch.std, "std", torch.var, "var", "size", "dim", "numel",
        ),
    ),
)  # fmt: skip
TABLE: Mapping[Any, Operation] = {one: row for row, targets in _ROWS for one in targets}

# Functions that work in place, and what makes the same as a new tensor. Of methods, the name tells.
OUT_OF_PLACE: Mapping[Any, Callable[..., Any]] = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, F.relu_: F.relu, F.leaky_relu_: F.leaky_relu,
    F.elu_: F.elu, F.celu_: F.celu, F.selu_: F.selu, F.hardtanh_: F.hardtanh,
    torch.relu_: torch.relu, torch.sigmoid_: torch.sigmoid, torch.tanh_: torch.tanh,
}  # fmt: skip


def foreign() -> dict[Any, Operation]:
    """Rows for torchvision and timm, which are only there if somebody has imported them."""
    found: dict[Any, Operation] = {}
    vision, timm = torchvision_operations(), timm_layers()
    if vision is not None:
        drop = _drop(3, "training", True)
        found |= {vision.StochasticDepth: drop, vision.stochastic_depth: drop}
    if timm is not None:
        drop = _drop(2, "training", False)
        found |= {timm.DropPath: drop, timm.drop_path: drop}
        found[timm.DropBlock2d] = Operation(Kind.ELEMENTWISE)
        # Batch norm, drop and activation in one.
        found[timm.BatchNormAct2d] = Operation(Kind.FRESH, Role.BATCH_NORM)
    return found


def torchvision_operations() -> Any:
    """As `timm_layers`, of torchvision, which takes long to import."""
    return sys.modules.get("torchvision.ops")


def timm_layers() -> Any:
    """The layers of timm, if the network's user has imported timm; None otherwise."""
    return sys.modules.get("timm.layers")
