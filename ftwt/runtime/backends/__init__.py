"""Back ends: what runs the steps of a program."""

from ftwt.errors import FtwtError, check_choice
from ftwt.runtime.backends import dense, gathered
from ftwt.runtime.backends.channels_last import ChannelsLast
from ftwt.runtime.backends.interface import Backend, Runnable
from ftwt.runtime.backends.native import Native
from ftwt.runtime.backends.stepwise import Stepwise
from ftwt.runtime.program import Program, Step

__all__ = [
    "Backend",
    "ChannelsLast",
    "Native",
    "Runnable",
    "Stepwise",
    "backend_named",
    "backend_names",
    "everywhere",
    "register",
    "taking",
]  # fmt: skip

# Runs any step on any device, and whatever the others do not take.
_ANY = "torch"
_KNOWN: dict[str, Backend] = {}


def register(backend: Backend) -> Backend:
    """Let `skip(model, backend=NAME)` run on a back end, and calibrations measure it.

    A back end of the same name is replaced. Plans that name it need it registered when they are
    used.

    Raises:
        FtwtError: it lacks what a back end has.
    """
    members = ("name", "fuses", "runs_on", "dense", "whole", "takes", "prepare")
    missing = [name for name in members if not hasattr(backend, name)]
    if missing or not isinstance(backend.name, str):
        raise FtwtError(
            f"runtime.register: {backend!r} is no back end ({missing or 'its name is no text'}); "
            f"give one with {', '.join(members)}: see ftwt.runtime.Backend"
        )
    _KNOWN[backend.name] = backend
    return backend


def backend_names() -> tuple[str, ...]:
    """The names of all back ends."""
    return tuple(_KNOWN)


def backend_named(name: str) -> Backend:
    """A back end by the name that plans use.

    Raises:
        FtwtError: no back end has this name.
    """
    check_choice("skip", "backend", name, _KNOWN)
    return _KNOWN[name]


def taking(program: Program, step: Step, name: str) -> Backend:
    """The back end of this name if it runs a step of a program here, else torch."""
    backend = backend_named(name)
    here = backend.runs_on is None or (program.dtype, program.device.type) in backend.runs_on
    return backend if here and backend.takes(step) else _KNOWN[_ANY]


def everywhere(program: Program, name: str) -> tuple[str, ...]:
    """The back end of each step: this one for all that it takes, torch for the rest."""
    return tuple(taking(program, step, name).name for step in program.steps)


for _backend in (
    Stepwise("dense", dense.run_dense, dense=True),
    Stepwise(_ANY, gathered.run_gathered),
    Native("native", winograd=True),
    Native("native-direct", winograd=False),
    ChannelsLast(),
):
    register(_backend)
