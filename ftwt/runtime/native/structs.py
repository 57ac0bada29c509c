"""The structs and numbers of `src/program.h`, for ctypes.

Loading the library compares them with its own (`facts`), so that a difference shows at once.
"""

from ctypes import POINTER, Structure, c_int32, c_int64, c_void_p, sizeof
from typing import Any

Ints = POINTER(c_int32)
Pair = c_int32 * 2

PLACES = {"arena": 0, "input": 1, "output": 2}
SETS = {"all": 0, "given": 1, "made": 2, "union": 3, "intersection": 4, "concat": 5, "reorder": 6}
ACTIVATIONS = {
    name: number
    for number, name in enumerate(
        (None, "relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid")
    )
}
POOLS = {None: 0, "max": 1, "mean": 2}
NORMALIZERS = {"none": 0, "softmax": 1, "layer": 2}
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
        )
    )
}


class Value(Structure):
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


class Set(Structure):
    """ftwt_set."""

    _fields_ = (
        ("kind", c_int32),
        ("width", c_int32),
        ("number", c_int32),
        ("before", c_int32),
        ("parts", c_int32),
        ("unused", c_int32),
        ("part", Ints),
        ("index", Ints),
    )


class Window(Structure):
    """ftwt_window."""

    _fields_ = (("kernel", Pair), ("stride", Pair), ("padding", Pair), ("dilation", Pair))


class Step(Structure):
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
        ("source", Ints),
        ("window", Window),
        ("pooling", Window),
        ("middle", Pair),
        ("index", Ints),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("rows", c_void_p),
        ("weight2", c_void_p),
        ("bias2", c_void_p),
    )


class Program(Structure):
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
        ("value", POINTER(Value)),
        ("set", POINTER(Set)),
        ("step", POINTER(Step)),
        ("arena", c_int64),
    )


class Tensor(Structure):
    """ftwt_tensor."""

    _fields_ = (("data", c_void_p), ("count", c_int64))


# As FTWT_FORMAT in src/program.h.
_FORMAT = 3


def facts() -> dict[str, int]:
    """What the library must say of itself: numbers by name, sizes of structs, places of fields."""
    numbers: dict[str, dict[Any, int]] = {
        "PLACE": PLACES,
        "SET": SETS,
        "ACT": ACTIVATIONS,
        "POOL": POOLS,
        "NORM": NORMALIZERS,
        "STEP": STEPS,
    }
    known = {"FTWT_FORMAT": _FORMAT}
    for prefix, names in numbers.items():
        known |= {f"{prefix}_{name or 'none'}".upper(): value for name, value in names.items()}
    for struct in (Value, Set, Window, Step, Program, Tensor):
        name = f"ftwt_{struct.__name__.lower()}"
        known[name] = sizeof(struct)
        known |= {f"{name}.{field}": getattr(struct, field).offset for field, _ in struct._fields_}
    return known
