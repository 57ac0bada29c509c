"""Back ends: what runs the steps of a program."""

from ftwt.errors import FtwtError
from ftwt.runtime.backends.dense import Dense
from ftwt.runtime.backends.gathered import Gathered
from ftwt.runtime.backends.interface import Backend, Part

__all__ = ["Backend", "Dense", "Gathered", "Part", "backend_named"]

_BACKENDS: dict[str, Backend] = {"dense": Dense(), "torch": Gathered()}


def backend_named(name: str | None) -> Backend:
    """A back end by the name that plans use; by default the fastest that is here."""
    if name is None:
        name = "torch"
    if name not in _BACKENDS:
        raise FtwtError(f"skip: backend={name!r} is unknown; use one of {', '.join(_BACKENDS)}")
    return _BACKENDS[name]
