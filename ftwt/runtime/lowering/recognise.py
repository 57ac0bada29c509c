"""Which operation of a program a node of a traced graph is, if it is one."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ftwt.graph import calls, operations
from ftwt.runtime.program import Activation, Pair

_ACTIVATION_MODULES: dict[type[nn.Module], Activation] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.Hardswish: "hardswish", nn.SiLU: "silu",
    nn.Hardsigmoid: "hardsigmoid", nn.Sigmoid: "sigmoid",
}  # fmt: skip
_ACTIVATION_CALLS: dict[Any, Activation] = {
    F.relu: "relu", F.relu_: "relu", torch.relu: "relu", torch.relu_: "relu", "relu": "relu",
    "relu_": "relu", F.relu6: "relu6", F.hardswish: "hardswish", F.silu: "silu",
    F.hardsigmoid: "hardsigmoid", F.sigmoid: "sigmoid", torch.sigmoid: "sigmoid",
    torch.sigmoid_: "sigmoid", "sigmoid": "sigmoid", "sigmoid_": "sigmoid",
}  # fmt: skip
_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_PRODUCTS = {operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply"}
_CONCATENATIONS = {torch.cat, torch.concat}
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_DROPOUT_CALLS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout}
# They make a tensor contiguous, or a copy.
COPIES = {"clone", "contiguous", torch.clone}
_SAME = {"detach", torch.detach}

Read = Callable[[Any], Any]


@dataclass(frozen=True)
class Convolution:
    """What a convolution computes; `pad_mode` other than "constant" is padding beforehand."""

    weight: Tensor
    bias: Tensor
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    pad_mode: str = "constant"


@dataclass(frozen=True)
class Norm:
    """A batch norm in eval mode, and the activation that its module brings along."""

    mean: Tensor
    variance: Tensor
    epsilon: float
    scale: Tensor | None
    shift: Tensor | None
    activation: nn.Module | None = None


def plain(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Whether a module computes what `kind` does, no subclass's own affair and no hooks."""
    return operations.is_a(module, (kind,)) and not operations.hooked(module)


def target_of(node: fx.Node) -> Any:
    """The function of a call, or the name of a method."""
    return node.target if node.op in ("call_function", "call_method") else None


def activation(node: fx.Node, module: nn.Module | None) -> Activation | None:
    """The activation that a node applies, if a program knows it."""
    if module is not None:
        return activation_of(module)
    return _ACTIVATION_CALLS.get(target_of(node))


def activation_of(module: nn.Module) -> Activation | None:
    """The activation that a module is, if a program knows it."""
    if plain(module, nn.Hardtanh) and isinstance(module, nn.Hardtanh):
        return "relu6" if (module.min_val, module.max_val) == (0, 6) else None
    kinds = (name for kind, name in _ACTIVATION_MODULES.items() if plain(module, kind))
    return next(kinds, None)


def passes(node: fx.Node, module: nn.Module | None, read: Read) -> bool:
    """Whether a node's result is what it is given, in eval mode."""
    from torchvision.ops import StochasticDepth, stochastic_depth

    timm = operations.timm_layers()
    if module is not None:
        drops = (*_DROPOUTS, StochasticDepth, *((timm.DropPath,) if timm is not None else ()))
        return any(plain(module, one) for one in (nn.Identity, *drops))
    target = target_of(node)
    if target in _DROPOUT_CALLS:
        place, name = (2, "train") if target is torch.dropout else (2, "training")
        return read(calls.argument(node, place, name, default=True)) is False
    if target is stochastic_depth:
        return read(calls.argument(node, 3, "training", default=True)) is False
    if timm is not None and target is timm.drop_path:
        return read(calls.argument(node, 2, "training", default=False)) is False
    return target in _SAME


def convolution(node: fx.Node, module: nn.Module | None, read: Read) -> Convolution | None:
    """The convolution that a node is; None if its weights are not known beforehand."""
    if node.op == "call_module":
        if not (isinstance(module, nn.Conv2d) and plain(module, nn.Conv2d)):
            return None
        found = _convolution(
            module.weight,
            module.bias,
            module.stride,
            module.padding,
            module.dilation,
            module.groups,
        )
        if module.padding_mode == "zeros" or found is None:
            return found
        return replace(found, pad_mode=module.padding_mode)
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    defaults = (None, None, 1, 0, 1, 1)
    given = [
        read(calls.argument(node, place, name, default=default))
        for place, (name, default) in enumerate(zip(names, defaults, strict=True), start=1)
    ]
    return _convolution(*given)


def _convolution(
    weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Convolution | None:
    if not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
        return None
    kernel, spread = (weight.shape[2], weight.shape[3]), pair(dilation)
    if spread is None:
        return None
    if padding == "valid":
        around: Pair | None = (0, 0)
    elif padding == "same":
        total = tuple(d * (k - 1) for d, k in zip(spread, kernel, strict=True))
        around = None if any(one % 2 for one in total) else (total[0] // 2, total[1] // 2)
    else:
        around = pair(padding)
    steps = pair(stride)
    if around is None or steps is None or not isinstance(groups, int):
        return None
    weight = weight.detach()
    own = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    return Convolution(weight, own, steps, around, spread, groups)


def norm(node: fx.Node, module: nn.Module | None, read: Read) -> Norm | None:
    """The batch norm that a node is, if it uses its running statistics."""
    timm = operations.timm_layers()
    if isinstance(module, nn.BatchNorm2d):
        act: nn.Module | None = None
        if not plain(module, nn.BatchNorm2d):
            # Of timm: batch norm, drop and activation in one, the drop an identity when evaluated.
            if timm is None or type(module) is not timm.BatchNormAct2d:
                return None
            act = cast(nn.Module, module.act)
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None:
            return None
        return Norm(mean, variance, module.eps, module.weight, module.bias, act)
    if target_of(node) is not F.batch_norm:
        return None
    names = ("running_mean", "running_var", "weight", "bias", "training")
    values = [read(calls.argument(node, place, one)) for place, one in enumerate(names, start=1)]
    epsilon = read(calls.argument(node, 7, "eps", default=1e-5))
    mean, variance, scale, shift, training = values
    known = isinstance(mean, Tensor) and isinstance(variance, Tensor) and not training
    if not known or not all(one is None or isinstance(one, Tensor) for one in (scale, shift)):
        return None
    return Norm(mean, variance, epsilon, scale, shift)


def folded(conv: Convolution, after: Norm) -> Convolution:
    """A convolution with the batch norm that follows it folded in."""
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, after.mean, after.variance, after.epsilon, after.scale, after.shift
    )
    return replace(conv, weight=weight.detach(), bias=bias.detach())


def linear(node: fx.Node, module: nn.Module | None, read: Read) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of a linear layer, if they are known beforehand."""
    if isinstance(module, nn.Linear) and plain(module, nn.Linear):
        weight, bias = module.weight, module.bias
    elif target_of(node) is F.linear:
        weight = read(calls.argument(node, 1, "weight"))
        bias = read(calls.argument(node, 2, "bias"))
    else:
        return None
    if not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
        return None
    own = weight.new_zeros(len(weight)) if bias is None else bias
    return weight.detach(), own.detach()


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds two tensors."""
    return bool(target_of(node) in _ADDITIONS and node.kwargs.get("alpha", 1) == 1)


def is_product(node: fx.Node) -> bool:
    """Whether a node multiplies two tensors."""
    return target_of(node) in _PRODUCTS


def concatenated(node: fx.Node, rank: int) -> list[Any] | None:
    """The tensors that a node puts one after the other along the channels."""
    if target_of(node) not in _CONCATENATIONS:
        return None
    parts = calls.argument(node, 0, "tensors")
    dim = calls.argument(node, 1, "dim", "axis", default=0)
    along = isinstance(dim, int) and dim % rank == 1
    return list(parts) if along and isinstance(parts, (list, tuple)) else None


def pair(value: Any) -> Pair | None:
    """A number for each of the two spatial dimensions."""
    if isinstance(value, int):
        return (value, value)
    listed = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(listed) == 1:
        listed = listed * 2
    fits = len(listed) == 2 and all(isinstance(one, int) for one in listed)
    return (listed[0], listed[1]) if fits else None
