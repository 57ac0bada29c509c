"""A part of a program that one call of the library runs."""

import ctypes
import math
import weakref
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ftwt.errors import FtwtError, check_whole
from ftwt.runtime import program
from ftwt.runtime.native import structs
from ftwt.runtime.native.binding import check_status, instruction_set, load_library
from ftwt.runtime.native.support import supports
from ftwt.runtime.native.translate import Translation
from ftwt.runtime.program import Step, Value


class Segment:
    """Consecutive steps, prepared for one batch size.

    Weights are read where they are or copied here: after a change of weights make a new segment.
    Several Python threads may run one segment at once; each then has memory of its own.

    Attributes:
        needs: names of the sites whose masks come from outside.
        makes: names of the sites that are gated inside.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        batch: int,
        *,
        winograd: bool = True,
    ) -> None:
        """`winograd` lets 3x3 convolutions that gain by it multiply half as often."""
        for step in steps:
            if not supports(step):
                name = getattr(step, "name", None) or getattr(step, "site", "?")
                raise FtwtError(
                    f"native.Segment: step {name!r} ({type(step).__name__}) is not supported; "
                    "ask native.supports(step) first"
                )
        check_whole("native.Segment", "batch", batch)
        self._translation = Translation(steps, inputs, outputs, batch, winograd=winograd)
        self._set = instruction_set()
        self._idle: dict[int, list[_Plan]] = {}
        self.needs = tuple(self._translation.given)
        self.makes = tuple(self._translation.made)
        widths = [self._translation.widths[site] for site in self.makes]
        starts = [0, *accumulate(width * batch for width in widths)]
        self._room = starts.pop()
        self._places = dict(zip(self.makes, zip(starts, widths, strict=True), strict=True))
        self._zeros = (ctypes.c_float * len(self._translation.steps))()

    def run(
        self,
        values: Mapping[Value, Tensor],
        masks: Mapping[str, Tensor],
        *,
        thresholds: Mapping[str, float] | None = None,
        executed: MutableMapping[Step, Tensor] | None = None,
        times: MutableMapping[Step, float] | None = None,
    ) -> "tuple[dict[Value, Tensor], SegmentMasks]":
        """Return the outputs, dead channels zero, and the masks that the gates inside decided.

        `values` holds float32 tensors (B, *value.shape) for the inputs, dead channels zero;
        `masks` bool tensors (B, C) for `needs`; `thresholds` logits by site, 0 where not named.
        `executed` is filled with the MACs that ran, int64 (B,), of each gate, convolution and
        linear layer; `times` with each step's milliseconds.
        """
        translation, batch = self._translation, self._translation.batch
        read = [
            _checked(values.get(value), (batch, *value.shape), torch.float32, value.name)
            for value in translation.inputs
        ]
        given = [
            _checked(masks.get(site), (batch, translation.widths[site]), torch.bool, site)
            for site in self.needs
        ]
        outputs = {value: torch.empty(batch, *value.shape) for value in translation.outputs}
        count = len(translation.steps)
        limits = self._limits(thresholds) if thresholds else self._zeros
        counts = torch.zeros(count, batch, dtype=torch.int64) if executed is not None else None
        spent = (ctypes.c_int64 * count)() if times is not None else None
        threads = torch.get_num_threads()
        plan = self._take(threads)
        try:
            plan.run(
                read,
                outputs.values(),
                given,
                limits,
                counts.data_ptr() if counts is not None else None,
                spent,
                threads,
            )
            made = SegmentMasks(plan.masks.clone(), self._places, batch)
        finally:
            self._idle[threads].append(plan)
        if executed is not None and counts is not None:
            counting = (program.GateStep, program.Conv, program.Linear)
            for step, macs in zip(translation.steps, counts, strict=True):
                if isinstance(step, counting):
                    executed[step] = macs
        if times is not None and spent is not None:
            times.update(zip(translation.steps, (ns / 1e6 for ns in spent), strict=True))
        return outputs, made

    def _limits(self, thresholds: Mapping[str, float]) -> ctypes.Array[ctypes.c_float]:
        limits = type(self._zeros)()
        for i, step in enumerate(self._translation.steps):
            if isinstance(step, program.GateStep):
                limits[i] = thresholds.get(step.site, 0.0)
        return limits

    def _take(self, threads: int) -> "_Plan":
        """A plan that nobody else uses; popping from a list is atomic."""
        try:
            return self._idle.setdefault(threads, []).pop()
        except IndexError:
            batch = self._translation.batch
            places = [(start, width * batch) for start, width in self._places.values()]
            return _Plan(self._translation, self._set, threads, self._room, places)


class SegmentMasks(Mapping[str, Tensor]):
    """Masks by site, bool (B, C), in one piece of memory; a tensor is made when it is asked for."""

    def __init__(self, memory: Tensor, places: Mapping[str, tuple[int, int]], batch: int) -> None:
        """`places` has each site's first element and its number of filters."""
        self._memory, self._places, self._batch = memory, places, batch

    def __getitem__(self, site: str) -> Tensor:
        start, width = self._places[site]
        return self._memory[start : start + width * self._batch].view(self._batch, width)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Plan:
    """The library's side of a segment, with memory for one run at a time.

    Attributes:
        masks: those of all sites in one piece, bool (room,); the next run overwrites them.
    """

    def __init__(
        self,
        translation: Translation,
        instructions: str | None,
        threads: int,
        room: int,
        places: Sequence[tuple[int, int]],
    ) -> None:
        """`places` has each site's first element among the masks, and how many are its own."""
        library = load_library()
        assert library is not None, "supports() said so"
        calls = library.calls
        assert instructions is not None
        handle = ctypes.c_void_p()
        check_status(
            calls.ftwt_prepare(
                ctypes.byref(translation.struct), instructions.encode(), threads, handle
            ),
            "native.Segment",
        )
        # A tensor for each site, or structs made anew, would take longer than some layers do.
        self.masks = torch.empty(room, dtype=torch.bool)
        base, batch = self.masks.data_ptr(), translation.batch
        self._made = _array([structs.CTensor(base + start, count) for start, count in places])
        self._inputs, self._outputs = (
            _array([structs.CTensor(None, batch * math.prod(one.shape)) for one in border])
            for border in (translation.inputs, translation.outputs)
        )
        widths = [translation.widths[site] for site in translation.given]
        self._given = _array([structs.CTensor(None, batch * width) for width in widths])
        # What the handle points into must outlive it.
        self._translation, self._library, self._handle = translation, calls, handle
        self._release = weakref.finalize(self, _release, calls, handle, translation)

    def run(
        self,
        inputs: Iterable[Tensor],
        outputs: Iterable[Tensor],
        given: Iterable[Tensor],
        *arguments: object,
    ) -> None:
        """Call ftwt_execute on tensors of the sizes that the translation says."""
        _point(self._inputs, inputs)
        _point(self._outputs, outputs)
        _point(self._given, given)
        status = self._library.ftwt_execute(
            self._handle, self._inputs, self._outputs, self._given, self._made, *arguments
        )
        check_status(status, "native.Segment.run")


def _release(library: ctypes.CDLL, handle: ctypes.c_void_p, translation: Translation) -> None:
    library.ftwt_release(handle)


def _array(rows: Sequence[structs.CTensor]) -> ctypes.Array[structs.CTensor]:
    array: ctypes.Array[structs.CTensor] = (structs.CTensor * max(1, len(rows)))(*rows)
    return array


def _point(array: ctypes.Array[structs.CTensor], tensors: Iterable[Tensor]) -> None:
    for row, tensor in zip(array, tensors, strict=False):
        row.data = tensor.data_ptr()


def _checked(
    tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, name: str
) -> Tensor:
    if tensor is None:
        raise FtwtError(f"native.Segment.run: nothing was given for {name!r}")
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or tensor.device.type != "cpu":
        raise FtwtError(
            f"native.Segment.run: {name!r} is {tensor.dtype} {tuple(tensor.shape)} on "
            f"{tensor.device}; this segment takes {dtype} {shape} on the CPU"
        )
    return tensor.detach().contiguous()
