"""Steps of a program as the structs that the library reads."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ftwt.gates.interface import follows_input
from ftwt.gates.pooling import values_of
from ftwt.graph.live import All, Concatenation, Live, OfSite, Reorder
from ftwt.runtime import program
from ftwt.runtime.native import structs
from ftwt.runtime.native.placement import Lifetime, place
from ftwt.runtime.native.sets import Sets
from ftwt.runtime.native.support import product_sources
from ftwt.runtime.native.weights import by_filter, by_input, gate_weights, padded
from ftwt.runtime.native.winograd import halves, tall
from ftwt.runtime.program import Step, Value, output_of, sources_of


class Translation:
    """A segment as structs, and everything that they point to.

    `values` that come in and go out, and masks, are numbered in the order of these attributes:
    `inputs`, `outputs`, `given` and `made` (site names).
    """

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        batch: int,
        *,
        winograd: bool,
    ) -> None:
        self.steps = _known_first(steps)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.batch, self._winograd = batch, winograd
        gates = [step for step in steps if isinstance(step, program.GateStep)]
        self.made = {gate.site: number for number, gate in enumerate(gates)}
        self.widths = {gate.site: gate.out_channels for gate in gates}
        self._sets = Sets(self.made)
        self._kept: list[Any] = []
        self._values: dict[Value, int] = {}
        self._rows: list[structs.CValue] = []
        self._lives: list[tuple[int, int]] = []
        rows = [self._step(number, step) for number, step in enumerate(self.steps)]
        for step, row in zip(self.steps, rows, strict=True):
            if isinstance(step, program.GateStep):
                row.made = self._sets.number(OfSite(step.site, step.out_channels), len(rows))
        self.given = self._sets.given
        self.widths |= self._sets.widths
        self.struct = self._program(rows)

    def _step(self, number: int, step: Step) -> structs.CStep:
        row = structs.CStep(output=-1, reads=-1, groups=1)
        sources = product_sources(step) if isinstance(step, program.Multiply) else sources_of(step)
        read = [self._value(one, number) for one in sources if isinstance(one, Value)]
        row.source, row.sources = self._ints(read), len(read)
        if isinstance(step, program.GateStep):
            self._gate(number, step, row)
            return row
        assert not isinstance(step, program.Call)
        assert isinstance(step.output, Value)
        made = _made(step)
        row.made = self._sets.number(made, number)
        row.output = self._value(step.output, number)
        row.fill = step.output in self.outputs or not self._sets.same(made, step.output.live)
        row.activation = structs.ACTIVATIONS[getattr(step, "activation", None)]
        self._details(number, step, row)
        return row

    def _gate(self, number: int, step: program.GateStep, row: structs.CStep) -> None:
        if follows_input(step.module):
            row.kind = structs.STEPS["follow"]
            return
        weights = self._keep(gate_weights(step.module))
        weights.fill(row)
        if weights.pool is not None:
            # A pooling may leave several kinds of values, each of all channels.
            live = step.source.live
            kinds = values_of(weights.pool)
            row.reads = self._sets.number(
                live if kinds == 1 else Concatenation((live,) * kinds), number
            )

    def _details(self, number: int, step: Step, row: structs.CStep) -> None:
        match step:
            case program.Conv():
                row.kind, row.groups = structs.STEPS["conv"], step.groups
                row.window = structs.CWindow(
                    step.weight.shape[2:], step.stride, step.padding, step.dilation
                )
                space = zip(
                    step.source.shape[1:],
                    step.weight.shape[2:],
                    step.stride,
                    step.padding,
                    step.dilation,
                    strict=True,
                )
                row.middle = structs.CPair(
                    *((n + 2 * pad - gap * (k - 1) - 1) // by + 1 for n, k, by, pad, gap in space)
                )
                self._pool(step.pool, row)
                filters = by_filter(step.weight.detach())
                row.row = filters.shape[1]
                row.weight, row.bias = self._address(filters), self._address(step.bias)
                if self._winograd and halves(step, self.batch):
                    row.weight2 = self._address(tall(step.weight.detach()))
                if step.groups == step.source.shape[0]:
                    # The step before may make its planes, while that has its own inputs still.
                    first, last = self._lives[row.output]
                    self._lives[row.output] = (min(first, number - 1), last)
            case program.Linear():
                row.kind = structs.STEPS["linear"]
                row.reads = self._sets.number(step.inputs, number)
                row.weight = self._address(by_input(step.weight.detach()))
                row.bias = self._address(padded(step.bias.detach()))
            case program.Pooling():
                row.kind = structs.STEPS["pool"]
                self._pool(step.pool, row)
            case program.Pick():
                row.kind, row.index = structs.STEPS["pick"], self._ints(step.index)
                row.window.stride = step.stride
            case program.Affine():
                row.kind = structs.STEPS["affine"]
                row.rows, row.bias = self._address(step.scale), self._address(step.shift)
            case program.MaskStep():
                row.kind = structs.STEPS["mask"]
                width = step.source.shape[0]
                row.reads = self._sets.number(OfSite(step.site, width), number)
            case program.Add():
                row.kind = structs.STEPS["add"]
                # The step before may add to its planes as it makes them, while it has its inputs.
                first, last = self._lives[row.output]
                self._lives[row.output] = (min(first, max(0, number - 1)), last)
            case program.Multiply():
                row.kind = structs.STEPS["multiply"]
            case program.Concat():
                row.kind = structs.STEPS["concat"]
            case program.Activate():
                row.kind = structs.STEPS["activate"]

    def _pool(self, pool: program.Pool | None, row: structs.CStep) -> None:
        if pool is None:
            return
        row.pool = structs.POOL_CODES[pool.kind]
        row.pooling = structs.CWindow(pool.kernel, pool.stride, pool.padding, (1, 1))

    def _value(self, value: Value, number: int) -> int:
        """The value's number, used in step `number`."""
        if value in self._values:
            known = self._values[value]
            self._lives[known] = (self._lives[known][0], number)
            return known
        self._values[value] = len(self._rows)
        channels, *space = value.shape
        height, width = space if len(space) == 2 else (1, math.prod(space))
        row = structs.CValue(channels=channels, height=height, width=width)
        row.set = self._sets.number(value.live, number)
        for place_name, border in (("input", self.inputs), ("output", self.outputs)):
            if value in border:
                row.place, row.number = structs.PLACES[place_name], border.index(value)
        self._rows.append(row)
        self._lives.append((number, number))
        return len(self._rows) - 1

    def _program(self, rows: list[structs.CStep]) -> structs.CProgram:
        inside = [i for i, row in enumerate(self._rows) if row.place == structs.PLACES["arena"]]
        offsets, total = place(
            [
                Lifetime(math.prod((one.channels, one.height, one.width)), *self._lives[i])
                for i, one in ((i, self._rows[i]) for i in inside)
            ]
        )
        for i, offset in zip(inside, offsets, strict=True):
            # As for one sample, so that threads can have samples of their own.
            self._rows[i].offset = offset * self.batch
        sets = self._sets.rows
        return structs.CProgram(
            batch=self.batch,
            values=len(self._rows),
            sets=len(sets),
            steps=len(rows),
            inputs=len(self.inputs),
            outputs=len(self.outputs),
            given=len(self.given),
            made=len(self.made),
            value=self._keep((structs.CValue * len(self._rows))(*self._rows)),
            set=self._keep((structs.CSet * len(sets))(*sets)),
            step=self._keep((structs.CStep * len(rows))(*rows)),
            arena=total * self.batch,
        )

    def _address(self, tensor: Tensor) -> int:
        return int(self._keep(tensor.detach().contiguous()).data_ptr())

    def _ints(self, numbers: Sequence[int]) -> ctypes.Array[ctypes.c_int32]:
        array: ctypes.Array[ctypes.c_int32] = (ctypes.c_int32 * len(numbers))(*numbers)
        self._kept.append(array)
        return array

    def _keep(self, thing: Any) -> Any:
        self._kept.append(thing)
        return thing


def _known_first(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, masks that are an input's before the step that makes that input.

    Such a step then knows what the next one does with its planes.
    """
    ordered: list[Step] = []
    for step in steps:
        place = len(ordered)
        if isinstance(step, program.GateStep) and follows_input(step.module):
            made = [i for i, one in enumerate(ordered) if output_of(one) is step.source]
            place = made[0] if made else place
        ordered.insert(place, step)
    return tuple(ordered)


def _made(step: Step) -> Live:
    """The channels that a step makes."""
    match step:
        case program.Conv(site=None) | program.Linear():
            return All(step.weight.shape[0])
        case program.Conv(output=Value(live=Reorder(source=All()) as known)):
            return known
        case program.Conv(site=str(site)):
            return OfSite(site, step.weight.shape[0])
        case program.GateStep() | program.GateRows() | program.Call():
            raise AssertionError("makes no value of a segment")
        case _:
            return step.output.live
