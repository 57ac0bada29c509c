"""What each step of a program means, in plain torch: dense operations, then zeros where dead."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ftwt.gates.interface import follows_input
from ftwt.graph.live import Evaluator
from ftwt.graph.sites import SiteShape
from ftwt.runtime import program
from ftwt.runtime.program import Step, Value

ACTIVATIONS = {
    None: lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
}


def run(
    steps: Sequence[Step],
    values: Mapping[Value, Tensor],
    masks: Mapping[str, Tensor],
    thresholds: Mapping[str, float],
) -> tuple[dict[Value, Tensor], dict[str, Tensor], dict[Step, Tensor]]:
    """Values, masks and MACs by step, gates' too."""
    values, masks = dict(values), dict(masks)
    macs: dict[Step, Tensor] = {}
    batch = next(iter(values.values())).shape[0]
    for step in steps:
        evaluator = Evaluator(masks, torch.zeros(batch, 1, dtype=torch.bool))
        if isinstance(step, program.GateStep) and follows_input(step.module):
            masks[step.site] = evaluator(step.source.live).expand(batch, -1).clone()
            macs[step] = torch.zeros(batch)
            continue
        if isinstance(step, program.GateStep):
            logits = step.module(values[step.source])
            masks[step.site] = logits > thresholds.get(step.site, 0.0)
            spec = getattr(step.module, "spec", None)
            live = evaluator(step.source.live).sum(1)
            if spec is not None:
                shape = SiteShape(step.site, step.source.shape[0], step.out_channels, 0)
                macs[step] = spec.macs(live, shape)
            else:
                macs[step] = torch.zeros_like(live)
            continue
        result = _compute(step, values)
        if isinstance(step, program.Conv):
            macs[step] = _conv_macs(step, values, masks, evaluator)
            result = _pool(step.pool, _masked(result, masks, step.site))
        elif isinstance(step, program.Linear):
            macs[step] = evaluator(step.inputs).sum(1) * step.weight.shape[0]
        elif isinstance(step, program.MaskStep):
            result = _masked(result, masks, step.site)
        live = evaluator(step.output.live)
        values[step.output] = torch.where(
            live.view(*live.shape, *[1] * (result.dim() - 2)), result, torch.zeros(())
        )
    return values, masks, macs


def _compute(step: Step, values: Mapping[Value, Tensor]) -> Tensor:
    shape = (-1, *step.output.shape)
    act = ACTIVATIONS[getattr(step, "activation", None)]
    match step:
        case program.Conv():
            x = values[step.source]
            return act(
                F.conv2d(
                    x, step.weight, step.bias, step.stride, step.padding, step.dilation, step.groups
                )
            )
        case program.Linear():
            return act(F.linear(values[step.source].flatten(1), step.weight, step.bias))
        case program.Add():
            return act(sum(values[one] for one in step.sources))
        case program.Multiply():
            return values[step.sources[0]] * values[step.sources[1]]
        case program.Affine():
            x = values[step.source]
            by = (-1, *[1] * (x.dim() - 2))
            return act(x * step.scale.view(by) + step.shift.view(by))
        case program.MaskStep():
            return values[step.source]
        case program.Pooling(pool=None):
            return values[step.source].flatten(2).mean(2).view(shape)
        case program.Pooling():
            return _pool(step.pool, values[step.source])
        case program.Pick():
            x = values[step.source]
            zeros = torch.zeros_like(x[:, :1])
            picked = torch.cat([zeros, x], 1)[:, list(step.index)]
            if step.stride != (1, 1):
                picked = picked[:, :, :: step.stride[0], :: step.stride[1]]
            return picked
        case program.Concat():
            return torch.cat([values[one] for one in step.sources], 1)
        case program.Activate():
            return act(values[step.source])
    raise AssertionError(step)


def _pool(pool: program.Pool | None, x: Tensor) -> Tensor:
    if pool is None:
        return x
    if pool.kind == "max":
        return F.max_pool2d(x, pool.kernel, pool.stride, pool.padding, ceil_mode=pool.ceil_mode)
    return F.avg_pool2d(x, pool.kernel, pool.stride, pool.padding)


def _masked(x: Tensor, masks: Mapping[str, Tensor], site: str | None) -> Tensor:
    if site is None:
        return x
    mask = masks[site]
    return torch.where(mask.view(*mask.shape, *[1] * (x.dim() - 2)), x, torch.zeros(()))


def _conv_macs(step, values, masks, evaluator) -> Tensor:
    live = evaluator(step.source.live)
    filters = step.weight.shape[0]
    made = masks[step.site] if step.site else live.new_ones(live.shape[0], filters)
    groups = step.groups
    pairs = live.view(live.shape[0], groups, -1).sum(2) * made.view(live.shape[0], groups, -1).sum(
        2
    )
    sizes = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            step.source.shape[1:],
            step.weight.shape[2:],
            step.stride,
            step.padding,
            step.dilation,
            strict=True,
        )
    )
    positions = torch.Size(sizes).numel()
    return pairs.sum(1) * positions * step.weight.shape[2:].numel()
