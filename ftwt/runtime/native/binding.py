"""Finding and loading the compiled library, and choosing its instruction set."""

import ctypes
import functools
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# torch comes first: the library takes threads from the OpenMP runtime that torch has loaded.
import torch  # noqa: F401

from ftwt.errors import FtwtError
from ftwt.runtime.native import structs

VARIABLE = "FTWT_NATIVE_SET"
# A folder with another build of the library, such as one with sanitizers.
FOLDER = "FTWT_NATIVE_FOLDER"
_FAILURES = {
    1: "out of memory",
    2: "the steps contradict each other in shapes or channels",
    3: "a tensor has another size than the steps say",
}

_forced: str | None = None


@functools.cache
def load() -> ctypes.CDLL | None:
    """The library, or None where it was not built for this installation."""
    folder = Path(os.environ.get(FOLDER) or Path(__file__).parent)
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"_kernels{suffix}"
        if path.exists():
            try:
                library = ctypes.CDLL(str(path))
                return _declare(library)
            except (OSError, AttributeError):
                return None
    return None


def available() -> bool:
    """Whether the compiled library is there and loads."""
    return load() is not None


def known_sets() -> tuple[str, ...]:
    """The instruction sets that this processor can run, best first; none without the library."""
    library = load()
    return tuple(library.ftwt_sets_known().decode().split()) if library is not None else ()


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
    library = load()
    return int(library.ftwt_team_size(threads)) if library is not None else 0


def force(name: str | None) -> None:
    """Make new segments use this instruction set; None goes back to the best."""
    global _forced
    known = known_sets()
    if name is not None and name not in known:
        allowed = ", ".join(known) or "none: the library is not there"
        raise FtwtError(f"native.force: {name!r} is not among this processor's sets ({allowed})")
    _forced = name


def check(status: int, called: str) -> None:
    """Raise FtwtError unless a call of the library succeeded."""
    if status:
        raise FtwtError(f"{called}: {_FAILURES.get(status, f'failed with code {status}')}")


def _declare(library: ctypes.CDLL) -> ctypes.CDLL | None:
    tensors = ctypes.POINTER(structs.Tensor)
    library.ftwt_abi.restype = ctypes.c_int64
    if library.ftwt_abi() != structs.ABI:
        return None
    library.ftwt_sets_known.restype = ctypes.c_char_p
    library.ftwt_prepare.restype = ctypes.c_int
    library.ftwt_prepare.argtypes = (
        ctypes.POINTER(structs.Program),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_void_p),
    )
    library.ftwt_run.restype = ctypes.c_int
    library.ftwt_run.argtypes = (
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
    library.ftwt_release.restype = None
    library.ftwt_release.argtypes = (ctypes.c_void_p,)
    return library
