"""A network as the bytes of its file: structs as the library has them, places for addresses."""

import ctypes
import hashlib
import math
import sys
import zlib
from collections.abc import Mapping, Sequence

from ftwt.errors import FtwtError
from ftwt.export.native.settings import NativeSetting
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.escalation.signals import Signal
from ftwt.gated.model import Gated
from ftwt.gated.operating_points import OperatingPoint
from ftwt.io import Card
from ftwt.runtime.native import structs
from ftwt.runtime.native.binding import constant, load_library
from ftwt.runtime.native.sureness import signal_struct
from ftwt.runtime.native.translate import Translation
from ftwt.runtime.program import GateStep

_MAGIC = b"ftwt\r\n\x1a\n"
_ORDER = 0x01020304
# Blocks begin in a cache line of their own.
_LINE = 64
# Pointers of a step to floats, in the order of ftwt_extents.
_TENSORS = ("weight", "bias", "rows", "weight2", "bias2")


def packed(
    model: Gated | Escalating, settings: Sequence[NativeSetting], card: Card | None
) -> bytes:
    """The file of a network whose settings are these.

    Raises:
        FtwtError: a signal that C does not have.
    """
    blocks = _Blocks(ctypes.sizeof(structs.CFile))
    last = settings[-1]
    head = structs.CFile(
        magic=_MAGIC,
        version=structs.FILE_VERSION,
        program=structs.FORMAT,
        lanes=constant("MOST_LANES"),
        tile=constant("TILE"),
        order=_ORDER,
        input=_shape(last.input.shape),
        output=_shape(last.output.shape),
        dense_macs=model.dense_macs,
        settings=len(settings),
        weight=1.0,
    )
    head.setting = blocks.add(*(_setting(blocks, one) for one in settings))
    names = _deciding(settings[0].translation)
    if isinstance(model, Escalating):
        head.weight, head.mirror = model.policy.weight, model.policy.mirror
        head.signal = blocks.add(*map(_signal, model.policy.signals))
        head.sure = blocks.add(_doubles(model.policy.thresholds))
        names = [str(place) for place in range(len(model.thresholds))]
    if model.operating_points:
        head.points, head.limits = len(model.operating_points), len(names)
        head.point = blocks.add(*(_point(one, names) for one in model.operating_points))
    if card is not None:
        _check_card(card, head.input[0], head.output[0])
    if card is not None and card.mean:
        head.scale = blocks.add(_floats((*card.mean, *card.std)))
    if card is not None and card.classes:
        head.classes = blocks.add(*(name.encode() + b"\0" for name in card.classes))
        head.classes_bytes = sum(len(name.encode()) + 1 for name in card.classes)
    body = blocks.bytes()
    head.size = len(body)
    return sealed(bytes(head) + body[ctypes.sizeof(head) :])


def sealed(content: bytes) -> bytes:
    """A file with the checksum that it should have."""
    head = structs.CFile.from_buffer_copy(content)
    head.checksum = zlib.crc32(content[structs.FILE_CHECKED :])
    # The checksum itself comes before what it is of.
    return bytes(head) + content[ctypes.sizeof(head) :]


class _Blocks:
    """A file's bytes so far; what is there already, such as shared weights, is not added again."""

    def __init__(self, begin: int) -> None:
        self._bytes = bytearray(begin)
        self._places: dict[bytes, int] = {}

    def add(self, *parts: bytes) -> int:
        """The place of these bytes, one part after the other."""
        payload = b"".join(parts)
        key = hashlib.sha256(payload).digest()
        if key not in self._places:
            self._bytes += bytes(-len(self._bytes) % _LINE)
            self._places[key] = len(self._bytes)
            self._bytes += payload
        return self._places[key]

    def bytes(self) -> bytes:
        return bytes(self._bytes)


def _check_card(card: Card, channels: int, outputs: int) -> None:
    """FtwtError unless a program in C can scale pixels and name classes by a card."""
    counts = (len(card.mean), len(card.std))
    scales = all(map(math.isfinite, (*card.mean, *card.std))) and all(one > 0 for one in card.std)
    if counts not in ((0, 0), (channels, channels)) or not scales:
        raise FtwtError(
            f"export: the card has mean={card.mean}, std={card.std}; give a finite number for each "
            f"of {channels} channels, deviations above 0, or neither"
        )
    if len(card.classes) not in (0, outputs) or any("\0" in name for name in card.classes):
        raise FtwtError(
            f"export: the card names {len(card.classes)} classes, the network answers with "
            f"{outputs} channels; give a name without zero bytes for each, or none"
        )


def _setting(blocks: _Blocks, setting: NativeSetting) -> bytes:
    translation = setting.translation
    program = translation.struct
    sets = [_set(blocks, program.set[i]) for i in range(program.sets)]
    steps = [_step(blocks, translation, i) for i in range(program.steps)]
    values = [bytes(program.value[i]) for i in range(program.values)]
    places = {
        "value": blocks.add(*values), "set": blocks.add(*sets), "step": blocks.add(*steps)
    }  # fmt: skip
    whole = structs.CSetting(thresholds=blocks.add(_floats(setting.thresholds)), macs=setting.macs)
    raw = bytearray(bytes(whole))
    raw[: ctypes.sizeof(program)] = _placed(program, places)
    return bytes(raw)


def _set(blocks: _Blocks, row: structs.CSet) -> bytes:
    part = _ints(row.part, row.parts) if row.parts else None
    index = _ints(row.index, row.width) if row.kind == structs.SETS["reorder"] else None
    return _placed(row, {"part": _place(blocks, part), "index": _place(blocks, index)})


def _step(blocks: _Blocks, translation: Translation, number: int) -> bytes:
    program = translation.struct
    row = program.step[number]
    library = load_library()
    assert library is not None, "the program was translated"
    floats = (ctypes.c_int64 * len(_TENSORS))()
    library.calls.ftwt_extents(ctypes.byref(program), ctypes.byref(row), floats)
    tensors = {
        name: _place(blocks, ctypes.string_at(getattr(row, name), 4 * count) if count else None)
        for name, count in zip(_TENSORS, floats, strict=True)
    }
    picks = row.kind == structs.STEPS["pick"]
    index = _ints(row.index, program.value[row.output].channels) if picks else None
    numbers = {"source": blocks.add(_ints(row.source, row.sources)), "index": _place(blocks, index)}
    return _placed(row, numbers | tensors)


def _place(blocks: _Blocks, payload: bytes | None) -> int:
    return 0 if payload is None else blocks.add(payload)


def _placed(struct: ctypes.Structure, places: Mapping[str, int]) -> bytes:
    """A struct's bytes, with places where its addresses are."""
    pointers = {name for name, kind in struct._fields_ if kind in (structs.CInts, ctypes.c_void_p)}  # type: ignore[misc]
    assert pointers <= places.keys(), "an address of this process must not be written"
    raw = bytearray(bytes(struct))
    for name, place in places.items():
        at = getattr(type(struct), name).offset
        raw[at : at + 8] = place.to_bytes(8, sys.byteorder)
    return bytes(raw)


def _signal(signal: Signal) -> bytes:
    struct = signal_struct(signal)
    if struct is None:
        raise FtwtError(
            f"export: the native format does not have the signal {signal!r}; escalate by Margin, "
            "Confidence or Entropy"
        )
    return bytes(struct)


def _point(point: OperatingPoint, names: Sequence[str]) -> bytes:
    return _doubles([point.reduction, *(point.thresholds[name] for name in names)])


def _deciding(translation: Translation) -> list[str]:
    """The sites whose masks the steps decide, in their order."""
    return [step.site for step in translation.steps if isinstance(step, GateStep)]


def _shape(shape: tuple[int, ...]) -> ctypes.Array[ctypes.c_int32]:
    return structs.CShape(*shape, *(1,) * (3 - len(shape)))


def _ints(numbers: Sequence[int], count: int) -> bytes:
    return bytes((ctypes.c_int32 * count)(*(numbers[i] for i in range(count))))


def _floats(numbers: Sequence[float]) -> bytes:
    return bytes((ctypes.c_float * len(numbers))(*numbers))


def _doubles(numbers: Sequence[float]) -> bytes:
    return bytes((ctypes.c_double * len(numbers))(*numbers))
