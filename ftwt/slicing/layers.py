"""Layers and norms with some of their channels only."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ftwt.runtime.program import Conv, Linear

_Layer = TypeVar("_Layer", nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Share:
    """Groups of a convolution with the same numbers of inputs and outputs, as one convolution.

    `inputs` and `outputs` are channels of the whole layer, group after group.
    """

    groups: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def shares(conv: Conv, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[Share, ...]:
    """Split a convolution over its live inputs and wanted outputs; outputs without inputs miss.

    An ungrouped convolution is one share; a depthwise one too.
    """
    reads, makes = conv.weight.shape[1], len(conv.weight) // conv.groups
    by_size: dict[tuple[int, int], list[tuple[list[int], list[int]]]] = {}
    ins: list[list[int]] = [[] for _ in range(conv.groups)]
    outs: list[list[int]] = [[] for _ in range(conv.groups)]
    for one in inputs:
        ins[one // reads].append(one)
    for one in outputs:
        outs[one // makes].append(one)
    for pair in zip(ins, outs, strict=True):
        size = len(pair[0]), len(pair[1])
        if all(size):
            by_size.setdefault(size, []).append(pair)
    return tuple(
        Share(
            groups=len(pairs),
            inputs=tuple(one for pair in pairs for one in pair[0]),
            outputs=tuple(one for pair in pairs for one in pair[1]),
        )
        for pairs in by_size.values()
    )


def cut_conv(conv: Conv, share: Share, whole: nn.Module | None) -> nn.Conv2d:
    """The convolution of one share; `whole` is the layer's own module, if it has one."""
    reads = conv.weight.shape[1]
    outputs = torch.tensor(share.outputs)
    weight = conv.weight[outputs]
    if share.inputs != tuple(range(reads * conv.groups)) or share.groups != conv.groups:
        each = len(share.inputs) // share.groups
        made = len(share.outputs) // share.groups
        columns = torch.tensor(share.inputs).view(share.groups, 1, each) % reads
        columns = columns.expand(-1, made, -1).reshape(len(outputs), each, 1, 1)
        columns = columns.expand(-1, -1, *weight.shape[2:]).to(weight.device)
        weight = weight.gather(1, columns)
    kept: nn.Conv2d = skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, len(share.inputs), len(share.outputs), tuple(weight.shape[2:]),
        stride=conv.stride, padding=conv.padding, dilation=conv.dilation, groups=share.groups,
        bias=_has_bias(conv.bias, whole), device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    return _with_weights(kept, weight, conv.bias[outputs], whole)


def cut_linear(linear: Linear, inputs: tuple[int, ...], whole: nn.Module | None) -> nn.Linear:
    """A linear layer that reads some inputs only."""
    weight = linear.weight[:, torch.tensor(inputs, dtype=torch.long)]
    kept: nn.Linear = skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, max(1, len(inputs)), len(weight), bias=_has_bias(linear.bias, whole),
        device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    kept.in_features = len(inputs)
    return _with_weights(kept, weight, linear.bias, whole)


def _has_bias(bias: Float[Tensor, "C"], whole: nn.Module | None) -> bool:
    own = whole is not None and getattr(whole, "bias", None) is not None
    return own or bool(bias.any())


def _with_weights(kept: _Layer, weight: Tensor, bias: Tensor, whole: nn.Module | None) -> _Layer:
    """Give a layer its weights, frozen where those of `whole` are."""
    kept.weight = nn.Parameter(weight.detach().clone(), _trains(whole, "weight"))
    if kept.bias is not None:
        kept.bias = nn.Parameter(bias.detach().clone(), _trains(whole, "bias"))
    return kept


def _trains(whole: nn.Module | None, name: str) -> bool:
    own = dict(whole.named_parameters()) if whole is not None else {}
    # Folded or computed weights depend on several parameters.
    chosen = [own[name]] if name in own else list(own.values())
    return not chosen or any(one.requires_grad for one in chosen)
