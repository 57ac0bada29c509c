"""Back ends: what runs the steps of a program."""

from ftwt.errors import FtwtError
from ftwt.runtime.backends import dense, gathered
from ftwt.runtime.backends.channels_last import ChannelsLast
from ftwt.runtime.backends.interface import Backend, Part
from ftwt.runtime.backends.native import Native
from ftwt.runtime.backends.stepwise import Stepwise

__all__ = ["Backend", "ChannelsLast", "Native", "Part", "Stepwise", "backend_named"]

_BACKENDS: dict[str, Backend] = {
    one.name: one
    for one in (
        Stepwise("dense", dense.run_step),
        Stepwise("torch", gathered.run_step),
        Native(),
        ChannelsLast(),
    )
}


def backend_named(name: str) -> Backend:
    """A back end by the name that plans use.

    Raises:
        FtwtError: no back end has this name.
    """
    if name not in _BACKENDS:
        raise FtwtError(f"skip: backend={name!r} is unknown; use one of {', '.join(_BACKENDS)}")
    return _BACKENDS[name]
