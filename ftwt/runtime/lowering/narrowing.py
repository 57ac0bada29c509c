"""Programs some of whose masks are known beforehand: what these leave out is not in them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor, fx, nn

from ftwt.gates.interface import follows_input
from ftwt.graph.live import (
    All,
    Concatenation,
    Evaluator,
    Intersection,
    Live,
    OfSite,
    Reorder,
    Union,
    sites_in,
)
from ftwt.runtime.lowering.each import cut_each
from ftwt.runtime.lowering.lives import simplified
from ftwt.runtime.lowering.peephole import tidied
from ftwt.runtime.numbering import alive, is_depthwise, spread_sets
from ftwt.runtime.program import (
    Activate,
    Add,
    Affine,
    Call,
    Concat,
    Conv,
    GateRows,
    GateStep,
    Linear,
    MaskStep,
    Multiply,
    Pick,
    Pooling,
    Program,
    Step,
    Value,
    held,
    output_of,
    sources_of,
)

_Moved = TypeVar("_Moved", bound=Affine | Activate | Pooling | MaskStep)


def narrowed(program: Program, masks: Mapping[str, Bool[Tensor, "C"]]) -> Program:
    """The program that does the same where some sites have these masks, whatever the input.

    Layers have the filters and inputs that are left, numbered anew; nothing decides these masks,
    which are in `Program.masks`. Tensors that meet in a sum hold the same channels: of those that
    are zero then, nothing is computed or counted, as where a mask is decided for each sample. A
    program that works in place stays as it is.
    """
    gates = {step.site: step for step in program.steps if isinstance(step, GateStep)}
    known = {site: mask.cpu()[None] for site, mask in masks.items() if site in gates}
    in_place = any(isinstance(step, Call) and step.changes for step in program.steps)
    if not known or in_place:
        return program
    for site, gate in gates.items():
        live = gate.source.live
        if follows_input(gate.module) and sites_in(live) <= known.keys():
            known[site] = _evaluator(known)(live)
    steps = tuple(
        step for step in program.steps if not (isinstance(step, GateStep) and step.site in known)
    )
    return tidied(_Narrowing(replace(program, steps=steps), known, gates).program())


def _evaluator(masks: Mapping[str, Bool[Tensor, "1 C"]]) -> Evaluator:
    return Evaluator(masks, torch.ones(1, 1, dtype=torch.bool))


class _Narrowing:
    def __init__(
        self,
        program: Program,
        known: Mapping[str, Bool[Tensor, "1 C"]],
        gates: Mapping[str, GateStep],
    ) -> None:
        self._whole, self._known = program, known
        # What is decided later may keep every filter.
        open_masks = {
            site: torch.ones(1, gate.out_channels, dtype=torch.bool)
            for site, gate in gates.items()
            if site not in known
        }
        self._live = _evaluator({**open_masks, **known})
        self._kept = _held_channels(program, self._live)
        self._masks = {site: mask[0] for site, mask in known.items()}
        self._values: dict[Value, Value] = {}
        # Expressions go by identity, so equal ones have to be one.
        self._constants: dict[tuple[bool, ...], Live] = {}
        self._lives: dict[tuple[Live, bytes], Live] = {}

    def program(self) -> Program:
        """All steps, on the channels that are held."""
        whole = self._whole
        inputs = tuple(self._value(one) if isinstance(one, Value) else one for one in whole.inputs)
        steps = tuple(made for step in whole.steps if (made := self._step(step)) is not None)
        result = self._renamed(whole.result)
        return replace(whole, inputs=inputs, steps=steps, result=result, masks=self._masks)

    def _step(self, step: Step) -> Step | None:
        match step:
            case GateStep():
                return replace(step, source=self._value(step.source))
            case GateRows():
                return step
            case Conv():
                return self._conv(step)
            case Linear():
                return self._linear(step)
            case Add() | Concat():
                sources = tuple(map(self._value, step.sources))
                return replace(step, sources=sources, output=self._value(step.output))
            case Multiply():
                one, two = map(self._value, step.sources)
                return replace(step, sources=(one, two), output=self._value(step.output))
            case Affine():
                index = self._index(step.output, step.scale)
                return replace(self._moved(step), scale=step.scale[index], shift=step.shift[index])
            case Activate() | Pooling():
                return self._moved(step)
            case MaskStep():
                if step.site not in self._known:
                    return self._moved(step)
                own = self._known[step.site][0].tolist()
                places = tuple(place * left for place, left in enumerate(own, start=1))
                return self._pick(Pick(step.name, step.source, step.output, places))
            case Pick():
                return self._pick(step)
            case Call():
                return self._call(step)

    def _moved(self, step: _Moved) -> _Moved:
        return replace(step, source=self._value(step.source), output=self._value(step.output))

    def _conv(self, step: Conv) -> Conv:
        source, output, site = self._value(step.source), self._value(step.output), step.site
        made, read = self._index(step.output, step.weight), self._index(step.source, step.weight)
        weight, groups = step.weight[made], step.groups
        if is_depthwise(step):
            groups = len(read)
        elif groups == 1:
            weight = weight[:, read]
        if site is not None and site in self._known:
            own = self._known[site][0][self._kept[step.output]]
            site = None if own.all() else self._named(site, own)
        weight, bias = weight.contiguous(), step.bias[made]
        return replace(
            step, source=source, output=output, weight=weight, bias=bias, groups=groups, site=site
        )

    def _named(self, site: str, mask: Bool[Tensor, "C"]) -> str:
        """The name of a site's mask among the channels that are held."""
        name = site if len(mask) == len(self._masks[site]) else f"{site}, narrowed"
        self._masks[name] = mask
        return name

    def _linear(self, step: Linear) -> Linear:
        kept = torch.ones(step.inputs.width, dtype=torch.bool)
        if len(step.output.shape) == 1:
            # Position i of the flat source is of channel i // space.
            kept = self._kept[step.source].repeat_interleave(prod(step.source.shape[1:]))
        weight = step.weight[:, kept.to(step.weight.device)].contiguous()
        return replace(
            step,
            source=self._value(step.source),
            inputs=self._narrow(step.inputs, kept),
            output=self._value(step.output),
            weight=weight,
        )

    def _pick(self, step: Pick) -> Pick | None:
        """A pick among the channels that are held; None where it would pick them as they are."""
        places = self._kept[step.source].long().cumsum(0) * self._kept[step.source]
        whole = torch.tensor(step.index)[self._kept[step.output]]
        index = tuple(torch.cat([torch.zeros(1).long(), places])[whole].tolist())
        source = self._value(step.source)
        space = source.shape[1:] == step.output.shape[1:]
        if space and step.stride == (1, 1) and index == tuple(range(1, source.shape[0] + 1)):
            self._values[step.output] = source
            return None
        return replace(step, source=source, output=self._value(step.output), index=index)

    def _call(self, step: Call) -> Call:
        run = step.run
        if step.each and isinstance(run, nn.Module) and isinstance(step.output, Value):
            kept = self._kept[step.output]
            run = cut_each(run, tuple(kept.nonzero().flatten().tolist()), len(kept))
        arguments, keywords = self._renamed((step.arguments, dict(step.keywords)))
        output = step.output
        if isinstance(output, Value):
            output = self._value(output)
        return replace(step, run=run, arguments=arguments, keywords=keywords, output=output)

    def _renamed(self, structure: Any) -> Any:
        def name(leaf: Any) -> Any:
            return self._value(leaf) if isinstance(leaf, Value) else leaf

        return fx.node.map_aggregate(structure, name)

    def _value(self, value: Value) -> Value:
        """A value with the channels that are held of it."""
        if value not in self._values:
            kept = self._kept[value]
            live = self._narrow(value.live, kept)
            if kept.all() and live is value.live:
                self._values[value] = value
            else:
                shape = (int(kept.sum()), *value.shape[1:])
                self._values[value] = Value(value.name, shape, live)
        return self._values[value]

    def _index(self, value: Value, like: Tensor) -> Tensor:
        """The places of the channels that are held."""
        return self._kept[value].nonzero().flatten().to(like.device)

    def _narrow(self, live: Live, kept: Bool[Tensor, "C"]) -> Live:
        """An expression for the channels that are held."""
        key = live, bytes(kept.tolist())
        if key not in self._lives:
            self._lives[key] = self._found(live, kept)
        return self._lives[key]

    def _found(self, live: Live, kept: Bool[Tensor, "C"]) -> Live:
        sites = sites_in(live)
        if sites <= self._known.keys():
            return live if not sites and kept.all() else self._constant(self._live(live)[0][kept])
        whole = self._open(live) if sites & self._known.keys() else live
        if kept.all():
            return whole
        return simplified(Reorder(whole, tuple((kept.nonzero().flatten() + 1).tolist())))

    def _constant(self, mask: Bool[Tensor, "C"]) -> Live:
        """Channels that are live in every sample, or in none."""
        if mask.all():
            return All(len(mask))
        bits = tuple(mask.tolist())
        if bits not in self._constants:
            self._constants[bits] = Reorder(All(1), tuple(int(one) for one in bits))
        return self._constants[bits]

    def _open(self, live: Live) -> Live:
        """An expression with constants for the masks that are known."""
        if sites_in(live) <= self._known.keys():
            return self._constant(self._live(live)[0])
        match live:
            case Union() | Intersection() | Concatenation():
                return replace(live, parts=tuple(map(self._open, live.parts)))
            case Reorder():
                return replace(live, source=self._open(live.source))
            case All() | OfSite():
                return live


def _held_channels(program: Program, live: Evaluator) -> dict[Value, Bool[Tensor, "C"]]:
    """The channels that each value holds: those that may be live, and what that brings along."""
    kept = alive(program, live)
    for one in (*program.inputs, *held(program.result), *_whole(program.steps)):
        if isinstance(one, Value):
            kept[one][:] = True
    for mask in kept.values():
        # A tensor without channels is nothing that kernels take.
        mask[:1] |= ~mask.any()
    spread_sets(program, kept, 1)
    return kept


def _whole(steps: Sequence[Step]) -> list[Any]:
    """What is read or made with every channel."""
    found: list[Any] = []
    for step in steps:
        match step:
            case Conv() if step.groups > 1 and not is_depthwise(step):
                found += [step.source, step.output]
            case Linear():
                found += [step.output, *([step.source] if len(step.output.shape) > 1 else [])]
            case GateStep() | GateRows():
                found += sources_of(step)
            case Call(each=False):
                found += [*sources_of(step), output_of(step)]
            case _:
                pass
    return found
