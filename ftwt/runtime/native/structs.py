"""The structs and numbers of `src/program.h`, for ctypes.

Loading the library compares them with its own (`facts`), so that a difference shows at once.
"""

from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_uint32,
    c_void_p,
    sizeof,
)
from typing import Any

CInts = POINTER(c_int32)
CPair = c_int32 * 2
CShape = c_int32 * 3

PLACES = {"arena": 0, "input": 1, "output": 2}
SETS = {"all": 0, "given": 1, "made": 2, "union": 3, "intersection": 4, "concat": 5, "reorder": 6}
ACTIVATIONS = {
    name: number
    for number, name in enumerate(
        (None, "relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid")
    )
}
POOL_CODES = {None: 0, "max": 1, "mean": 2, "mean_std": 3}
SIGNALS = {"margin": 0, "confidence": 1, "entropy": 2}
NORMALIZER_CODES = {"none": 0, "softmax": 1, "layer": 2}
STEPS = {
    name: number
    for number, name in enumerate(
        (
            "gate",
            "table",
            "conv",
            "linear",
            "add",
            "multiply",
            "pool",
            "pick",
            "concat",
            "activate",
            "affine",
            "mask",
            "follow",
        )
    )
}


class CValue(Structure):
    """ftwt_value."""

    _fields_ = (
        ("channels", c_int32),
        ("height", c_int32),
        ("width", c_int32),
        ("set", c_int32),
        ("place", c_int32),
        ("number", c_int32),
        ("offset", c_int64),
    )


class CSet(Structure):
    """ftwt_set."""

    _fields_ = (
        ("kind", c_int32),
        ("width", c_int32),
        ("number", c_int32),
        ("before", c_int32),
        ("parts", c_int32),
        ("unused", c_int32),
        ("part", CInts),
        ("index", CInts),
    )


class CWindow(Structure):
    """ftwt_window."""

    _fields_ = (("kernel", CPair), ("stride", CPair), ("padding", CPair), ("dilation", CPair))


class CStep(Structure):
    """ftwt_step."""

    _fields_ = (
        ("kind", c_int32),
        ("output", c_int32),
        ("made", c_int32),
        ("reads", c_int32),
        ("fill", c_int32),
        ("activation", c_int32),
        ("pool", c_int32),
        ("normalize", c_int32),
        ("groups", c_int32),
        ("rank", c_int32),
        ("sources", c_int32),
        ("row", c_int32),
        ("source", CInts),
        ("window", CWindow),
        ("pooling", CWindow),
        ("middle", CPair),
        ("index", CInts),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("rows", c_void_p),
        ("weight2", c_void_p),
        ("bias2", c_void_p),
    )


class CProgram(Structure):
    """ftwt_program."""

    _fields_ = (
        ("batch", c_int32),
        ("values", c_int32),
        ("sets", c_int32),
        ("steps", c_int32),
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("given", c_int32),
        ("made", c_int32),
        ("value", POINTER(CValue)),
        ("set", POINTER(CSet)),
        ("step", POINTER(CStep)),
        ("arena", c_int64),
    )


class CTensor(Structure):
    """ftwt_tensor."""

    _fields_ = (("data", c_void_p), ("count", c_int64))


class CSignal(Structure):
    """ftwt_signal, in a file."""

    _fields_ = (("kind", c_int32), ("unused", c_int32), ("temperature", c_double))


class CSetting(Structure):
    """ftwt_setting, in a file."""

    _fields_ = (("program", CProgram), ("thresholds", c_void_p), ("macs", c_int64))


class CFile(Structure):
    """ftwt_file, with which a file begins."""

    _fields_ = (
        ("magic", c_char * 8),
        ("version", c_uint32),
        ("program", c_uint32),
        ("lanes", c_uint32),
        ("tile", c_uint32),
        ("order", c_uint32),
        ("checksum", c_uint32),
        ("size", c_int64),
        ("input", CShape),
        ("output", CShape),
        ("dense_macs", c_int64),
        ("settings", c_int32),
        ("points", c_int32),
        ("limits", c_int32),
        ("mirror", c_int32),
        ("weight", c_double),
        ("setting", c_void_p),
        ("signal", c_void_p),
        ("sure", c_void_p),
        ("point", c_void_p),
        ("scale", c_void_p),
        ("classes", c_void_p),
        ("classes_bytes", c_int64),
    )


class CSizes(Structure):
    """ftwt_sizes, of an opened file."""

    _fields_ = (
        ("input", CShape),
        ("output", CShape),
        ("dense_macs", c_int64),
        ("lowest", c_double),
        ("highest", c_double),
        ("mean", c_void_p),
        ("deviation", c_void_p),
        ("classes", c_char_p),
    )


# As FTWT_FORMAT in src/program.h, FILE_VERSION and FILE_CHECKED in src/file.h.
FORMAT = 5
FILE_VERSION = 2
FILE_CHECKED = 32


def facts() -> dict[str, int]:
    """What the library must say of itself: numbers by name, sizes of structs, places of fields."""
    numbers: dict[str, dict[Any, int]] = {
        "PLACE": PLACES,
        "SET": SETS,
        "ACT": ACTIVATIONS,
        "POOL": POOL_CODES,
        "NORM": NORMALIZER_CODES,
        "STEP": STEPS,
        "SIGNAL": SIGNALS,
    }
    known = {
        "FTWT_FORMAT": FORMAT,
        "FILE_VERSION": FILE_VERSION,
        "FILE_CHECKED": FILE_CHECKED,
    }
    for prefix, names in numbers.items():
        known |= {f"{prefix}_{name or 'none'}".upper(): value for name, value in names.items()}
    for struct in (
        CValue,
        CSet,
        CWindow,
        CStep,
        CProgram,
        CTensor,
        CSignal,
        CSetting,
        CFile,
        CSizes,
    ):
        name = f"ftwt_{struct.__name__[1:].lower()}"
        known[name] = sizeof(struct)
        known |= {f"{name}.{field}": getattr(struct, field).offset for field, _ in struct._fields_}
    return known
