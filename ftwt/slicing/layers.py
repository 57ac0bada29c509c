"""Layers with some of their inputs and outputs only."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


@dataclass(frozen=True)
class Share:
    """Groups of a convolution with the same numbers of inputs and outputs, as one convolution.

    `inputs` and `outputs` are channels of the whole layer, group after group.
    """

    groups: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def shares(conv: nn.Conv2d, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[Share, ...]:
    """Split a convolution over its live inputs and wanted outputs; outputs without inputs miss.

    An ungrouped convolution is one share; a depthwise one too.
    """
    reads, makes = conv.in_channels // conv.groups, conv.out_channels // conv.groups
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


def cut_conv(conv: nn.Conv2d, share: Share, norm: Norm | None) -> nn.Conv2d:
    """A convolution of one share, with the batch norm that follows folded into it."""
    reads = conv.in_channels // conv.groups
    outputs = torch.tensor(share.outputs)
    weight = conv.weight.detach()[outputs]
    if share.inputs != tuple(range(conv.in_channels)) or share.groups != conv.groups:
        each = len(share.inputs) // share.groups
        made = len(share.outputs) // share.groups
        columns = torch.tensor(share.inputs).view(share.groups, 1, each) % reads
        columns = columns.expand(-1, made, -1).reshape(len(outputs), each)
        space = weight.shape[2:]
        weight = weight.gather(1, columns.view(len(outputs), each, 1, 1).expand(-1, -1, *space))
    bias = conv.bias.detach()[outputs] if conv.bias is not None else None
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        weight = weight * scale[outputs].view(-1, 1, 1, 1)
        bias = shift[outputs] if bias is None else bias * scale[outputs] + shift[outputs]
    kept = copy.deepcopy(conv)
    kept.in_channels, kept.out_channels = len(share.inputs), len(share.outputs)
    kept.groups = share.groups
    kept.weight = nn.Parameter(weight.clone())
    kept.bias = nn.Parameter(bias.clone()) if bias is not None else None
    return kept


def at_zero(conv: nn.Conv2d, norm: Norm | None) -> Float[Tensor, "C"]:
    """What each filter answers where all its inputs are zero."""
    zeros = conv.weight.new_zeros(conv.out_channels)
    value = conv.bias.detach() if conv.bias is not None else zeros
    if norm is None:
        return value
    scale, shift = scale_and_shift(norm)
    return value * scale + shift


def cut_linear(linear: nn.Linear, inputs: tuple[int, ...]) -> nn.Linear:
    """A linear layer that reads some inputs only."""
    made = nn.Linear(
        len(inputs), linear.out_features, linear.bias is not None,
        device=linear.weight.device, dtype=linear.weight.dtype,
    )  # fmt: skip
    made.weight = nn.Parameter(linear.weight.detach()[:, torch.tensor(inputs)].clone())
    if linear.bias is not None:
        made.bias = nn.Parameter(linear.bias.detach().clone())
    return made


def cut_norm(norm: Norm, channels: tuple[int, ...]) -> Norm:
    """A batch norm of some channels."""
    made = copy.deepcopy(norm)
    made.num_features = len(channels)
    index = torch.tensor(channels)
    for name in ("weight", "bias"):
        value = getattr(norm, name)
        if value is not None:
            setattr(made, name, nn.Parameter(value.detach()[index].clone()))
    for name in ("running_mean", "running_var"):
        value = getattr(norm, name)
        if value is not None:
            setattr(made, name, value[index].clone())
    return made


def scale_and_shift(norm: Norm) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    """A batch norm in eval mode as x * scale + shift."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    shift = -mean * scale
    return scale, shift + norm.bias.detach() if norm.bias is not None else shift
