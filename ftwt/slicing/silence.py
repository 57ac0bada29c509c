"""Channels that a cut network holds although a mask makes them zero: how they come to be zero."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ftwt.runtime.numbering import Channels, Numbering, before_masks
from ftwt.runtime.program import Affine, Call, ConstantValue, Conv, MaskStep, Other, Program, Value
from ftwt.slicing.parts import Scaled


class Silence:
    """Filters that answer zero, and which of what follows them up to a mask stays zero.

    A filter's weights and the norm's after it can be zero, and most activations keep that. What
    does not keep it is multiplied by zero at the mask.
    """

    def __init__(self, program: Program, numbering: Numbering) -> None:
        self._program, self._numbering = program, numbering
        self._before = before_masks(program)
        # Of values before masks, the channels that are zero.
        self._zero: dict[Value, set[int]] = {}

    def conv(self, step: Conv) -> Conv:
        """A convolution whose filters that its site's mask leaves out have no weights."""
        silent = list(self._numbering.silent(step.output)) if step.site is not None else []
        self._zero[step.output] = set(silent)
        if not silent:
            return step
        weight, bias = step.weight.clone(), step.bias.clone()
        weight[silent], bias[silent] = 0, 0
        return replace(step, weight=weight, bias=bias)

    def affine(self, step: Affine, channels: Channels) -> Scaled:
        """What a batch norm by itself does to some channels."""
        index = torch.tensor(channels, dtype=torch.long, device=step.scale.device)
        scale, shift = step.scale[index], step.shift[index]
        silent = self._silent(step.source, step.output, channels)
        scale[silent], shift[silent] = 0, 0
        self._zero[step.output] = {channels[place] for place in silent}
        return Scaled(scale, shift, len(step.output.shape) + 1)

    def call(self, step: Call, source: Value, output: Value,
             run: Callable[..., Any], channels: Channels) -> None:  # fmt: skip
        """Let `run`, which is a call for some channels, keep zeros if it can; note if it does."""
        silent = self._silent(source, output, channels)
        if not silent:
            return
        if isinstance(run, _BatchNorm) and run.affine:
            with torch.no_grad():
                run.weight[silent], run.bias[silent] = 0, 0
        answer = self._at_zero(step, source, run, len(channels))
        if answer is not None:
            still = (answer == 0).transpose(0, 1).flatten(1).all(1)
            self._zero[output] = {channels[place] for place in silent if still[place]}

    def gate(self, step: MaskStep, channels: Channels) -> Scaled | None:
        """What a mask still has to make zero: zeros and ones to multiply by; None for nothing."""
        silent = set(self._numbering.silent(step.output)) - self._zero.get(step.source, set())
        if not silent:
            return None
        program = self._program
        scale = torch.tensor([float(one not in silent) for one in channels])
        scale = scale.to(program.device, program.dtype)
        return Scaled(scale, torch.zeros_like(scale), len(step.output.shape) + 1)

    def _silent(self, source: Value, output: Value, channels: Channels) -> list[int]:
        """The places among `channels` of those that are zero before and may be after."""
        if output not in self._before:
            return []
        zero = self._zero.get(source, set())
        return [place for place, channel in enumerate(channels) if channel in zero]

    def _at_zero(
        self, step: Call, source: Value, run: Callable[..., Any], width: int
    ) -> Tensor | None:
        """What a call answers to zeros, unless that depends on something else."""
        program = self._program
        shape = (1, width, *source.shape[1:])
        zeros = torch.zeros(shape, dtype=program.dtype, device=program.device)
        known = True

        def fill(leaf: Any) -> Any:
            nonlocal known
            known &= leaf is source or not isinstance(leaf, (Value, Other))
            return (
                leaf.value if isinstance(leaf, ConstantValue) else zeros if leaf is source else leaf
            )

        args, keywords = fx.node.map_aggregate((step.arguments, dict(step.keywords)), fill)
        if not known:
            return None
        training = isinstance(run, nn.Module) and run.training
        if isinstance(run, nn.Module):
            run = run.eval()
        with torch.no_grad():
            answer: Tensor = run(*args, **keywords)
        if isinstance(run, nn.Module):
            run.train(training)
        return answer
