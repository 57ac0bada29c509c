"""Finding and loading the compiled library, and choosing its instruction set."""

import ctypes
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# torch comes first: the library takes threads from the OpenMP runtime that torch has loaded.
import torch

from ftwt.errors import FtwtError
from ftwt.runtime.native import structs

# As setup.py names it: the library does not depend on the version of Python.
NAME = "_kernels.so"
VARIABLE = "FTWT_NATIVE_SET"
# A folder with another build of the library, such as one with sanitizers.
FOLDER = "FTWT_NATIVE_FOLDER"
_FAILURES = {
    "FTWT_MEMORY": "out of memory",
    "FTWT_PROGRAM": "the steps contradict each other in shapes or channels",
    "FTWT_TENSOR": "a tensor has another size than the steps say",
}

_forced: str | None = None


class NativeLibrary(NamedTuple):
    """The compiled code, and its constants by name."""

    calls: ctypes.CDLL
    facts: Mapping[str, int]


def load_library() -> NativeLibrary | None:
    """The library, or None where it was not built for this installation."""
    found = _find()
    return found if isinstance(found, NativeLibrary) else None


def available() -> bool:
    """Whether the compiled library is there and loads."""
    return load_library() is not None


def missing() -> str | None:
    """Why the library is not there, in one line; None where it is."""
    found = _find()
    return found if isinstance(found, str) else None


def constant(name: str) -> int:
    """A constant of the library, such as "MOST_TAPS"."""
    library = load_library()
    assert library is not None, "available() was asked first"
    return library.facts[name]


def known_sets() -> tuple[str, ...]:
    """The instruction sets that this processor can run, best first; none without the library."""
    library = load_library()
    return tuple(library.calls.ftwt_sets_known().decode().split()) if library is not None else ()


def instruction_set() -> str | None:
    """The instruction set that new segments use; None without the library.

    The best that the processor has, unless `force` or the variable FTWT_NATIVE_SET names another.
    """
    known = known_sets()
    asked = _forced or os.environ.get(VARIABLE)
    if asked and known and asked not in known:
        raise FtwtError(f"{VARIABLE}: {asked!r} is not among {', '.join(known)}")
    return asked if asked and known else next(iter(known), None)


def team_size(threads: int) -> int:
    """How many threads share the work where so many are asked for; 0 without the library."""
    library = load_library()
    return int(library.calls.ftwt_team_size(threads)) if library is not None else 0


def peak() -> float | None:
    """The most that torch's threads multiply and add with this instruction set, in 10^9 MACs/s.

    Measured in some milliseconds, in registers alone; None without the library.
    """
    library, instructions = load_library(), instruction_set()
    if library is None or instructions is None:
        return None
    return float(library.calls.ftwt_peak(instructions.encode(), torch.get_num_threads()))


def force(name: str | None) -> None:
    """Make new segments use this instruction set; None goes back to the best."""
    global _forced
    known = known_sets()
    if name is not None and name not in known:
        allowed = ", ".join(known) or "none: the library is not there"
        raise FtwtError(f"native.force: {name!r} is not among this processor's sets ({allowed})")
    _forced = name


def check_status(status: int, called: str) -> None:
    """Raise FtwtError unless a call of the library succeeded."""
    if status:
        meanings = {constant(name): meaning for name, meaning in _FAILURES.items()}
        raise FtwtError(f"{called}: {meanings.get(status, f'failed with code {status}')}")


@functools.cache
def _find() -> NativeLibrary | str:
    """The library, or why there is none."""
    folder = Path(os.environ.get(FOLDER) or Path(__file__).parent)
    path = folder / NAME
    if not path.exists():
        return f"{path} does not exist; no C compiler built it"
    try:
        calls = ctypes.CDLL(str(path))
        facts = _facts(calls)
        _declare(calls)
    except (OSError, AttributeError) as error:
        return f"{path} does not load: {error}"
    expected = structs.facts()
    # Of fields and structs all must be known here, of constants those that are used.
    fields = {name for name in facts if name.startswith("ftwt_")}
    different = [
        name for name in sorted(expected.keys() | fields) if expected.get(name) != facts.get(name)
    ]
    if different:
        return f"{path} was built from other sources ({different[0]} differs); install again"
    return NativeLibrary(calls, facts)


def _facts(calls: ctypes.CDLL) -> dict[str, int]:
    name, value = ctypes.c_char_p(), ctypes.c_int64()
    facts: dict[str, int] = {}
    while calls.ftwt_fact(len(facts), ctypes.byref(name), ctypes.byref(value)):
        assert name.value is not None
        facts[name.value.decode()] = value.value
    return facts


def _declare(library: ctypes.CDLL) -> None:
    tensors = ctypes.POINTER(structs.CTensor)
    library.ftwt_sets_known.restype = ctypes.c_char_p
    library.ftwt_prepare.restype = ctypes.c_int
    library.ftwt_prepare.argtypes = (
        ctypes.POINTER(structs.CProgram),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_void_p),
    )
    library.ftwt_execute.restype = ctypes.c_int
    library.ftwt_execute.argtypes = (
        ctypes.c_void_p,
        tensors,
        tensors,
        tensors,
        tensors,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
    )
    library.ftwt_peak.restype = ctypes.c_double
    library.ftwt_peak.argtypes = (ctypes.c_char_p, ctypes.c_int)
    library.ftwt_unsure.restype = ctypes.c_int64
    library.ftwt_unsure.argtypes = (
        ctypes.POINTER(structs.CSignal),
        ctypes.c_double,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int,
        ctypes.c_int64,
        ctypes.c_void_p,
    )
    library.ftwt_release.restype = None
    library.ftwt_release.argtypes = (ctypes.c_void_p,)
