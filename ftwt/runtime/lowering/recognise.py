"""Which operation of a program a node of a traced graph is, if it is one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ftwt.graph import calls, operations
from ftwt.graph.operations import Activation, Role
from ftwt.runtime.program import Pair

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


def activation(node: fx.Node, module: nn.Module | None) -> Activation | None:
    """The activation that a node applies, if a program knows it."""
    if isinstance(module, nn.Hardtanh) and operations.computes_as(module, nn.Hardtanh):
        return "relu6" if (module.min_val, module.max_val) == (0, 6) else None
    return operations.operation_of(node, module).activation


def activation_of(module: nn.Module) -> Activation | None:
    """The activation that a module is, if a program knows it."""
    kind = operations.type_of(module)
    if kind is None or operations.hooked(module):
        return None
    return operations.TABLE[kind].activation if kind in operations.TABLE else None


def is_identity(node: fx.Node, module: nn.Module | None, read: Read) -> bool:
    """Whether a node's result is what it is given, in eval mode."""
    found = operations.operation_of(node, module)
    if found.role is Role.DROP and module is None and found.training is not None:
        place, name, default = found.training
        return read(calls.argument(node, place, name, default=default)) is False
    return found.role in (Role.DROP, Role.SAME)


def convolution_of(node: fx.Node, module: nn.Module | None, read: Read) -> Convolution | None:
    """The convolution that a node is; None if its weights are not known beforehand."""
    if node.op == "call_module":
        if not (isinstance(module, nn.Conv2d) and operations.computes_as(module, nn.Conv2d)):
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
    # Whatever form of memory the network has them in: back ends read them row by row.
    weight = weight.detach().contiguous()
    own = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    return Convolution(weight, own, steps, around, spread, groups)


def norm(node: fx.Node, module: nn.Module | None, read: Read) -> Norm | None:
    """The batch norm that a node is, if it uses its running statistics."""
    if _role(node, module) is not Role.BATCH_NORM:
        return None
    if isinstance(module, nn.BatchNorm2d):
        # timm's brings an activation along; its drop is nothing when evaluated.
        act: nn.Module | None = getattr(module, "act", None)
        if operations.computes_as(act, nn.Identity):
            act = None
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None:
            return None
        return Norm(mean, variance, module.eps, module.weight, module.bias, act)
    if module is not None:
        return None
    names = ("running_mean", "running_var", "weight", "bias", "training")
    values = [read(calls.argument(node, place, one)) for place, one in enumerate(names, start=1)]
    epsilon = read(calls.argument(node, 7, "eps", default=1e-5))
    mean, variance, scale, shift, training = values
    known = isinstance(mean, Tensor) and isinstance(variance, Tensor) and not training
    if not known or not all(one is None or isinstance(one, Tensor) for one in (scale, shift)):
        return None
    return Norm(mean, variance, epsilon, scale, shift)


def folded_convolution(conv: Convolution, after: Norm) -> Convolution:
    """A convolution with the batch norm that follows it folded in."""
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, after.mean, after.variance, after.epsilon, after.scale, after.shift
    )
    return replace(conv, weight=weight.detach(), bias=bias.detach())


def linear(node: fx.Node, module: nn.Module | None, read: Read) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of a linear layer, if they are known beforehand."""
    if isinstance(module, nn.Linear) and operations.computes_as(module, nn.Linear):
        weight, bias = module.weight, module.bias
    elif module is None and _role(node, module) is Role.LINEAR:
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
    return _role(node) is Role.ADD and bool(node.kwargs.get("alpha", 1) == 1)


def is_product(node: fx.Node) -> bool:
    """Whether a node multiplies two tensors."""
    return _role(node) is Role.MULTIPLY


def concatenated(node: fx.Node, rank: int) -> list[Any] | None:
    """The tensors that a node puts one after the other along the channels."""
    if _role(node) is not Role.CONCAT:
        return None
    parts = calls.argument(node, 0, "tensors")
    dim = calls.argument(node, 1, "dim", "axis", default=0)
    along = isinstance(dim, int) and dim % rank == 1
    return list(parts) if along and isinstance(parts, (list, tuple)) else None


def added_at(node: fx.Node, read: Read) -> tuple[int, ...] | None:
    """The channels of its first operand that a node adds those of its last to, each once."""
    if operations.target_of(node) not in (torch.index_add, "index_add", "index_add_"):
        return None
    names = ((1, "dim", None), (2, "index", None), (4, "alpha", 1))
    dim, index, alpha = (
        read(calls.argument(node, place, name, default=default)) for place, name, default in names
    )
    if dim != 1 or alpha != 1 or not isinstance(index, Tensor):
        return None
    places = tuple(index.tolist())
    plain = len(set(places)) == len(places) and min(places, default=0) >= 0
    return places if plain else None


def _role(node: fx.Node, module: nn.Module | None = None) -> Role | None:
    return operations.operation_of(node, module).role


def pair(value: Any) -> Pair | None:
    """A number for each of the two spatial dimensions."""
    if isinstance(value, int):
        return (value, value)
    listed = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(listed) == 1:
        listed = listed * 2
    fits = len(listed) == 2 and all(isinstance(one, int) for one in listed)
    return (listed[0], listed[1]) if fits else None
