"""What is to be written of a network: its settings as translated programs, or why it cannot be."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.runtime import native
from ftwt.runtime.audit import done_beforehand
from ftwt.runtime.entry import skip
from ftwt.runtime.escalating import SkippingEscalation
from ftwt.runtime.gating import Thresholds
from ftwt.runtime.native.translate import Translation
from ftwt.runtime.placement import label, step_kind
from ftwt.runtime.program import Call, Method, Program, Step, Value
from ftwt.runtime.skipping import Skipping


@dataclass(frozen=True, eq=False)
class NativeSetting:
    """One gated network as a segment for a single image; `macs` were done once for all images."""

    translation: Translation
    thresholds: tuple[float, ...]
    macs: int
    input: Value
    output: Value


def skipping_of(model: nn.Module) -> Skipping | SkippingEscalation:
    """The network on the native back end.

    Raises:
        FtwtError: no gated or escalating network, training mode, or no native library here.
    """
    if not isinstance(model, (Gated, Escalating)):
        raise FtwtError(
            f"export: {type(model).__name__} has no gates; attach some, for example "
            "ftwt.attach(network, ftwt.Pruning(gate=ftwt.gates.Fixed({})), example=...), which "
            "runs every filter"
        )
    if not native.available():
        raise FtwtError(f"export: the native format needs the native library: {native.missing()}")
    return skip(model, backend="native")


def settings_of(skipping: Skipping | SkippingEscalation) -> tuple[NativeSetting, ...]:
    """The settings of a network, the cheapest first; one of a network that is gated only.

    Raises:
        FtwtError: an operation that C does not have, by its name; several inputs or outputs.
    """
    every = skipping.settings if isinstance(skipping, SkippingEscalation) else (skipping,)
    return tuple(_setting(one) for one in every)


def example_of(skipping: Skipping | SkippingEscalation, images: int) -> Tensor:
    """Drawn images that the network takes."""
    one = skipping.settings[0] if isinstance(skipping, SkippingEscalation) else skipping
    generator = torch.Generator().manual_seed(0)
    return torch.randn(images, *one.model.anatomy.expected[0], generator=generator)


def _setting(skipping: Skipping) -> NativeSetting:
    anatomy = skipping.model.anatomy
    weights = [one for one in skipping.model.parameters() if one.is_floating_point()]
    if len(anatomy.expected) != 1 or anatomy.dtypes[0] != torch.float32:
        raise FtwtError(
            f"export: the network takes {len(anatomy.expected)} inputs, "
            f"{', '.join(str(one) for one in anatomy.dtypes)}; the native format takes one, float32"
        )
    if any(one.dtype != torch.float32 or one.device.type != "cpu" for one in weights):
        raise FtwtError("export: the native format is float32 on the CPU; call model.float().cpu()")
    program = skipping.program(example_of(skipping, 1))
    source, result = _border(program)
    for step in program.steps:
        if not native.supports(step):
            raise FtwtError(
                f"export: the native format has no operation for {label(step)!r} "
                f"({_described(step)}); give the network another one, or export it as format='onnx'"
            )
    limits = Thresholds(skipping.model)()
    translation = Translation(program.steps, [source], [result], 1, winograd=True)
    return NativeSetting(
        translation,
        tuple(limits.get(getattr(step, "site", None) or "", 0.0) for step in translation.steps),
        sum(done_beforehand(anatomy.plan, program).values()),
        source,
        result,
    )


def _border(program: Program) -> tuple[Value, Value]:
    (source,), result = program.inputs, program.result
    made = isinstance(result, Value) and result is not source and len(result.shape) in (1, 3)
    if not isinstance(source, Value) or len(source.shape) not in (1, 3) or not made:
        what = f"a {type(result).__name__}"
        if isinstance(result, Value):
            what = f"a tensor (B, {', '.join(map(str, result.shape))})"
        raise FtwtError(
            f"export: the network answers with {what}; the native format has one tensor (B, C) or "
            "(B, C, H, W) that the network computes"
        )
    return source, result


def _described(step: Step) -> str:
    """What a step calls, or its kind."""
    if not isinstance(step, Call):
        kind = step_kind(step)
        module = getattr(step, "module", None)
        return kind if module is None else f"{kind} {type(module).__name__.removeprefix('_')}"
    run = getattr(step.run, "func", step.run)
    if isinstance(run, nn.Module):
        return type(run).__name__
    if isinstance(run, Method):
        return f"Tensor.{run.name}"
    return str(getattr(run, "__name__", run))
