"""Which channels each tensor holds, of a network that is cut or of a program with known masks.

Channels that are zero may be held all the same. Where tensors meet, in a sum or a product, holding
the same channels on all sides lets the cut network do it as the whole one does, with no operation
that puts channels back; and engines like layers whose widths are multiples of eight.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.graph.live import Evaluator, Live
from ftwt.runtime.program import (
    Activate,
    Add,
    Affine,
    Call,
    Concat,
    Conv,
    Linear,
    MaskStep,
    Multiply,
    Other,
    Pick,
    Pooling,
    Program,
    Step,
    Value,
    held,
    output_of,
    sources_of,
)

Channels: TypeAlias = tuple[int, ...]
_Sets: TypeAlias = dict[Value, Bool[Tensor, "C"]]


@dataclass(frozen=True)
class Numbering:
    """The channels of a program's values under fixed masks: those held, and those not zero.

    `whole` says that layers read all that is held, else what can be other than zero.
    """

    live: Evaluator
    kept: Mapping[Value, Bool[Tensor, "C"]]
    whole: bool

    def of(self, value: Value) -> Channels:
        """The channels that are held of a value, in ascending order."""
        return _listed(self.kept[value])

    def alive(self, live: Live) -> Channels:
        """The channels that can be other than zero."""
        return _listed(self.live(live)[0])

    def silent(self, value: Value) -> Channels:
        """The channels that are held and zero."""
        return _listed(self.kept[value] & ~self.live(value.live)[0].cpu())


def numbered(program: Program, live: Evaluator, round_to: int | None) -> Numbering:
    """Choose the channels of each value of a program without gates.

    Args:
        program: what is to be cut.
        live: tells live channels under the masks.
        round_to: hold the same channels wherever tensors meet, leave out what nothing reads, and
            hold more until the width of each convolution is a multiple of this, or whole. None
            holds the live channels and no others.
    """
    if round_to is not None:
        check_round_to("cut", round_to)
    # Something works in place: then a tensor has one form only, which all its readers share.
    strict = any(isinstance(step, Call) and step.changes for step in program.steps)
    if round_to is None or strict:
        return Numbering(live, alive(program, live), whole=False)
    kept = _needed(program, alive(program, live))
    for value in (*program.inputs, *held(program.result), *_read_whole(program.steps)):
        if isinstance(value, Value):
            kept[value][:] = True
    spread_sets(program, kept, round_to)
    return Numbering(live, kept, whole=True)


def check_round_to(caller: str, round_to: int) -> None:
    """FtwtError unless widths can be multiples of a number."""
    if isinstance(round_to, bool) or not isinstance(round_to, int) or round_to < 1:
        raise FtwtError(
            f"{caller}: round_to is {round_to!r}; give the whole number whose multiples widths "
            "shall be, such as 8, or 1 for any width"
        )


def before_masks(program: Program) -> dict[Value, Value]:
    """Values of which only what a mask keeps is read, up to the convolution: the masked value."""
    readers = Counter(one for step in program.steps for one in sources_of(step))
    found: dict[Value, Value] = {}
    for step in reversed(program.steps):
        made = output_of(step)
        if isinstance(step, MaskStep):
            masked = step.output
        elif isinstance(made, Value) and made in found and _works_on_each(step):
            masked = found[made]
        else:
            continue
        for source in sources_of(step):
            if isinstance(source, Value) and readers[source] == 1:
                found[source] = masked
    return found


def alive(program: Program, live: Evaluator) -> _Sets:
    """The live channels of each value; before a mask, those that the mask keeps."""
    rows = {value: live(value.live)[0].cpu().clone() for value in _values(program)}
    return rows | {one: rows[masked].clone() for one, masked in before_masks(program).items()}


def spread_sets(program: Program, kept: _Sets, round_to: int) -> None:
    """Add channels to `kept` until tensors that meet hold the same, and widths are multiples."""
    while True:
        before = _count(kept)
        for step in (*program.steps, *reversed(program.steps)):
            _tie(step, kept)
        if _count(kept) == before:
            for step in program.steps:
                if isinstance(step, Conv):
                    _even(step, kept)
                    _round(kept[step.output], round_to)
            if _count(kept) == before:
                return


def _tie(step: Step, kept: _Sets) -> None:
    """Let what a step reads and what it makes hold the same channels."""
    match step:
        case Add() | Multiply():
            _unite([kept[one] for one in (*step.sources, step.output)])
        case Affine() | MaskStep() | Activate() | Pooling():
            _unite([kept[step.source], kept[step.output]])
        case Call(each=True, output=Value() as output):
            _unite([kept[_source(step)], kept[output]])
        case Conv() if is_depthwise(step):
            read, made = kept[step.source], kept[step.output].view(step.groups, -1)
            read |= made.any(1)
            made |= read[:, None]
        case Pick():
            read, made = kept[step.source], kept[step.output]
            index = torch.tensor(step.index)
            moved = index > 0
            made[moved] |= read[index[moved] - 1]
            read[index[moved & made] - 1] = True
        case Concat():
            for one, part in _parts(step, kept[step.output]):
                _unite([kept[one], part])
        case _:
            pass


def _even(step: Conv, kept: _Sets) -> None:
    """Let the groups of a convolution hold equally many inputs and outputs, or none at all."""
    if step.groups == 1 or is_depthwise(step):
        return
    sides = [kept[one].view(step.groups, -1) for one in (step.source, step.output)]
    used = sides[0].any(1) | sides[1].any(1)
    for side in sides:
        most = int(side.sum(1).max())
        for group in used.nonzero().flatten().tolist():
            _fill(side[group], most)


def _round(mask: Bool[Tensor, "C"], to: int) -> None:
    count = int(mask.sum())
    _fill(mask, min(len(mask), -(-count // to) * to))


def _fill(mask: Bool[Tensor, "C"], count: int) -> None:
    """Keep the first channels more that make up a number."""
    missing = count - int(mask.sum())
    if missing > 0:
        mask[(~mask).nonzero().flatten()[:missing]] = True


def _needed(program: Program, rows: _Sets) -> _Sets:
    """Of the live channels, those that something reads in the end."""
    found = {value: torch.zeros_like(row) for value, row in rows.items()}

    def ask(value: Value | Other, channels: Bool[Tensor, "C"] | bool = True) -> None:
        if isinstance(value, Value):
            found[value] |= rows[value] & channels

    for one in (*program.inputs, *held(program.result)):
        ask(one)
    for step in reversed(program.steps):
        match step:
            case Add() | Multiply():
                for source in step.sources:
                    ask(source, found[step.output])
            case Affine() | MaskStep():
                ask(step.source, found[step.output])
            case Call(each=True, output=Value() as output):
                ask(_source(step), found[output])
            case Conv():
                groups = found[step.output].view(step.groups, -1).any(1)
                ask(step.source, groups.repeat_interleave(step.weight.shape[1]))
            case Pick():
                read = torch.zeros(step.source.shape[0] + 1, dtype=torch.bool)
                read[torch.tensor(step.index)[found[step.output]]] = True
                ask(step.source, read[1:])
            case Concat():
                for source, part in _parts(step, found[step.output]):
                    ask(source, part)
            case _:
                for one in sources_of(step):
                    ask(one)
    return found


def _works_on_each(step: Step) -> bool:
    return step.each if isinstance(step, Call) else isinstance(step, (Activate, Affine))


def _read_whole(steps: Iterable[Step]) -> Iterable[Value | Other]:
    """What goes into calls that get whole tensors."""
    for step in steps:
        lines = isinstance(step, Linear) and len(step.output.shape) > 1
        if lines or (isinstance(step, Call) and not step.each):
            yield from sources_of(step)


def _values(program: Program) -> Iterable[Value]:
    made = (output_of(step) for step in program.steps)
    return (one for one in (*program.inputs, *made) if isinstance(one, Value))


def _parts(step: Concat, mask: Bool[Tensor, "C"]) -> Iterable[tuple[Value, Bool[Tensor, "D"]]]:
    """What a concatenation reads, each with its part of a mask of all channels."""
    start = 0
    for source in step.sources:
        yield source, mask[start : start + source.shape[0]]
        start += source.shape[0]


def is_depthwise(step: Conv) -> bool:
    """Whether each filter reads one channel."""
    return step.weight.shape[1] == 1 and step.groups > 1


def _source(step: Call) -> Value:
    """The one tensor of a call that works on each channel alone."""
    return next(one for one in sources_of(step) if isinstance(one, Value))


def _unite(masks: list[Bool[Tensor, "C"]]) -> None:
    union = torch.stack(masks).any(0)
    for mask in masks:
        mask |= union


def _count(kept: _Sets) -> int:
    return sum(int(mask.sum()) for mask in kept.values())


def _listed(mask: Bool[Tensor, "C"]) -> Channels:
    return tuple(mask.nonzero().flatten().tolist())
