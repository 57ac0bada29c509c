"""From a program and one fixed mask for each site to a plain network, on some channels only.

Each value becomes a piece: the channels of it that are held, in an order of its own; the others
are zero. Steps that a program knows, and calls that work channel by channel, run on pieces; any
other call gets whole tensors, with zeros put where channels are missing.
"""

import copy
import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx, nn

from ftwt.gated.model import Gated
from ftwt.graph.channels import Select
from ftwt.runtime.lowering.each import cut_each
from ftwt.runtime.numbering import Channels, Numbering
from ftwt.runtime.program import (
    Add,
    Affine,
    Call,
    Concat,
    Conv,
    Linear,
    MaskStep,
    Multiply,
    Pick,
    Program,
    Step,
    Value,
    same,
    sources_of,
)
from ftwt.slicing.layers import Share, cut_conv, cut_linear, shares
from ftwt.slicing.parts import Append, UnionAdd
from ftwt.slicing.pieces import Piece, Pieces
from ftwt.slicing.silence import Silence
from ftwt.slicing.writer import Writer


@dataclass(frozen=True)
class Emitted:
    """A plain network, and by name what each convolution of the program was split into."""

    network: fx.GraphModule
    shares: Mapping[str, tuple[Share, ...]]


def emit(model: Gated, program: Program, numbering: Numbering, *, fold: bool) -> Emitted:
    """Write a program without gates as a network; `fold` as it was lowered with."""
    emitter = _Emitter(model, program, numbering, fold=fold)
    for step in program.steps:
        emitter.step(step)
    writer = emitter.writer
    writer.graph.output(fx.node.map_aggregate(program.result, emitter.pieces.whole))
    writer.graph.lint()
    made = fx.GraphModule(writer.modules, writer.graph, type(model).__name__)
    made.train(model.training).to(writer.device)
    return Emitted(made, emitter.shares)


class _Emitter:
    def __init__(self, model: Gated, program: Program, numbering: Numbering, *, fold: bool) -> None:
        self.fold, self.numbering = fold, numbering
        self.writer = Writer(model)
        strict = any(isinstance(step, Call) and step.changes for step in program.steps)
        self.pieces = Pieces(self.writer, strict=strict)
        self.shares: dict[str, tuple[Share, ...]] = {}
        self._silence = Silence(program, numbering)
        self._readers = Counter(one for step in program.steps for one in sources_of(step))
        self._inputs(model, program)

    def _inputs(self, model: Gated, program: Program) -> None:
        values = {value.name: value for value in program.inputs}
        for node in model.anatomy.traced.graph.nodes:
            if node.op != "placeholder":
                continue
            made = self.writer.graph.create_node(
                "placeholder", str(node.target), node.args, name=node.name
            )
            value = values.get(node.name)
            if isinstance(value, Value):
                self.writer.first = self.writer.first or made
            if value is not None:
                self.pieces.note_whole(value, made)

    def step(self, step: Step) -> None:
        """Write one step."""
        at, keep = self.pieces.at, self.pieces.keep
        match step:
            case Conv():
                self._conv(step)
            case Linear():
                self._linear(step)
            case Add():
                self._add(step)
            case Multiply():
                wanted = self._wanted(step.output, step.sources[0])
                sides = [at(one, wanted) for one in step.sources]
                keep(step.output, wanted, lambda: self.writer.function(operator.mul, *sides))
            case Affine():
                wanted = self._wanted(step.output, step.source)
                scaled = self._silence.affine(step, wanted)
                keep(
                    step.output,
                    wanted,
                    lambda: self.writer.call(step.name, scaled, at(step.source, wanted)),
                )
            case MaskStep():
                self._mask(step)
            case Pick():
                order = {one: i for i, one in enumerate(self.pieces[step.source].channels)}
                wanted = tuple(
                    sorted(
                        self._wanted(step.output),
                        key=lambda one: order.get(step.index[one] - 1, len(order)),
                    )
                )
                places = tuple(step.index[one] - 1 for one in wanted)
                keep(step.output, wanted, lambda: at(step.source, places))
            case Concat():
                self._concat(step)
            case Call():
                self._torch(step)
            case _:
                raise TypeError(f"{type(step).__name__} is no step of a program without gates")

    def _conv(self, step: Conv) -> None:
        inputs = self.pieces.in_order(self.numbering.of(step.source), step.source)
        wanted = self._wanted(step.output)
        made: list[fx.Node] = []
        computed: list[int] = []
        self.shares[step.name] = shares(step, inputs, wanted)
        step = self._silence.conv(step)
        for share in self.shares[step.name]:
            part = cut_conv(step, share, self.writer.layer(step))
            made.append(
                self.writer.call(step.name, part, self.pieces.at(step.source, share.inputs))
            )
            computed += share.outputs
        rest = tuple(one for one in wanted if one not in set(computed))

        def joined() -> fx.Node:
            whole = made[0] if len(made) == 1 else None
            if len(made) > 1:
                whole = self.writer.function(torch.cat, made, 1)
            if not rest:
                assert whole is not None
                return whole
            # Filters whose inputs are all dead answer their bias everywhere.
            constants, rank = step.bias[list(rest)].detach().clone(), len(step.output.shape) + 1
            name = f"{step.name}_constants"
            if whole is not None:
                return self.writer.call(name, Append(constants, rank), whole)
            return self.writer.filled(name, constants, step.output.shape[1:])

        self.pieces.keep(step.output, (*computed, *rest), joined)

    def _linear(self, step: Linear) -> None:
        inputs, whole = self.numbering.alive(step.inputs), self.writer.layer(step)
        everything = tuple(range(step.output.shape[0]))
        if len(step.output.shape) == 1:
            # Position i of the flat source is of channel i // space.
            space = prod(step.source.shape[1:])
            channels = tuple(dict.fromkeys(one // space for one in inputs))
            if self.numbering.whole:
                channels = self.numbering.of(step.source)
            channels = self.pieces.in_order(channels, step.source)
            there = [channel * space + i for channel in channels for i in range(space)]
            read_inputs = set(inputs)
            inputs = tuple(one for one in there if self.numbering.whole or one in read_inputs)
            if not inputs:
                name, constants = f"{step.name}_constants", step.bias.detach().clone()
                self.pieces.note_whole(step.output, self.writer.filled(name, constants, ()))
                return
            read = self.pieces.at(step.source, channels)
            if len(step.source.shape) > 1:
                read = self.writer.function(torch.flatten, read, 1)
        else:
            read = self.pieces.whole(step.source)
            there = list(range(step.weight.shape[1]))
            inputs = tuple(there) if self.numbering.whole else inputs
        cut = cut_linear(step, inputs, whole)
        if there != list(inputs):
            place = {one: i for i, one in enumerate(there)}
            select = Select([place[one] for one in inputs], len(step.output.shape))
            read = self.writer.call(f"{step.name}_select", select, read)
        self.pieces.keep(step.output, everything, lambda: self.writer.call(step.name, cut, read))

    def _add(self, step: Add) -> None:
        wanted = self._wanted(step.output)
        one, two = sorted(step.sources, key=lambda side: -len(self.pieces[side].channels))
        first, second = self.pieces[one], self.pieces[two]
        if first.node is None or second.node is None or set(first.channels) == set(second.channels):
            wanted = self._wanted(step.output, one)
        # The second's channels go into the first's, those that only the second has after them.
        more = tuple(channel for channel in second.channels if channel not in first.channels)
        united = {*first.channels, *more} == set(wanted)
        wanted = (*first.channels, *more) if united else wanted
        if united and second.node is None and not self.pieces.strict:
            self.pieces.note(step.output, first)
        elif (
            first.node is None
            or second.node is None
            or not (united and self.fold)
            or set(first.channels) == set(second.channels)
        ):
            sides = [self.pieces.at(side, wanted) for side in step.sources]
            self.pieces.keep(
                step.output, wanted, lambda: self.writer.function(operator.add, *sides)
            )
        else:
            places = [wanted.index(channel) for channel in second.channels]
            united_add = UnionAdd(places, len(more), len(step.output.shape) + 1)
            united_add.inplace = self._is_own(one)
            made = self.writer.call(f"{step.name}_union", united_add, first.node, second.node)
            self.pieces.note(step.output, Piece(made, wanted))

    def _mask(self, step: MaskStep) -> None:
        wanted = self._wanted(step.output, step.source)

        def masked() -> fx.Node:
            held = self.pieces.at(step.source, wanted)
            gate = self._silence.gate(step, wanted)
            return held if gate is None else self.writer.call(step.name, gate, held)

        self.pieces.keep(step.output, wanted, masked)

    def _concat(self, step: Concat) -> None:
        wanted = set(self.numbering.of(step.output))
        channels: list[int] = []
        parts: list[fx.Node] = []
        start = 0
        for source in step.sources:
            kept = tuple(one for one in self.pieces[source].channels if start + one in wanted)
            if kept:
                parts.append(self.pieces.at(source, kept))
            channels += [start + one for one in kept]
            start += source.shape[0]
        # What is live although it is zero here, as it may be infinite where masks are not.
        self.pieces.keep(
            step.output, tuple(channels), lambda: self.writer.function(torch.cat, parts, 1)
        )

    def _torch(self, step: Call) -> None:
        run, name = step.run, self.writer.name_of(step.run, step.name)
        if run is same:
            self.pieces.note_whole(step.output, self.pieces.whole(step.arguments[0]))
        elif step.each and isinstance(step.output, Value):
            self._each(step, step.output, name)
        else:
            if isinstance(run, nn.Module):
                run = copy.deepcopy(run)
                if not step.changes and hasattr(run, "inplace"):
                    run.inplace = False  # type: ignore[assignment]
            self.pieces.note_whole(step.output, self.writer.run(run, step, self.pieces.whole, name))

    def _each(self, step: Call, output: Value, name: str) -> None:
        """A call on each channel alone, for the channels that are held."""
        source = next(one for one in sources_of(step) if isinstance(one, Value))
        wanted, run = self._wanted(output, source), step.run

        def fill(leaf: Any) -> Any:
            return self.pieces.at(source, wanted) if leaf is source else self.pieces.whole(leaf)

        if isinstance(run, nn.Module):
            run = cut_each(run, wanted, source.shape[0])
            if hasattr(run, "inplace"):
                run.inplace = self._is_own(source)  # type: ignore[assignment]
        self._silence.call(step, source, output, run, wanted)
        self.pieces.keep(output, wanted, lambda: self.writer.run(run, step, fill, name))

    def _wanted(self, value: Value, like: Value | None = None) -> Channels:
        """The channels that a step makes, in the order of `like` as far as that has them."""
        channels = self.numbering.of(value)
        return channels if like is None else self.pieces.in_order(channels, like)

    def _is_own(self, value: Value) -> bool:
        """Whether a tensor was just made and is read once, so that it can be worked on in place."""
        maker = self.writer.module_of(self.pieces[value].node)
        made = isinstance(maker, (nn.Conv2d, Append, UnionAdd)) and self._readers[value] == 1
        return made and self.fold and not self.pieces.strict
