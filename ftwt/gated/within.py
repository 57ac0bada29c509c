"""Gated networks inside of others, such as the backbone of a detector."""

import copy
import difflib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.trace import Trace
from ftwt.graph.arguments import Example


def gated_in(model: nn.Module) -> Gated | None:
    """The gated network itself, or the one that a network holds; None where there are no gates.

    Raises:
        FtwtError: it holds several.
    """
    found = held_in(model)
    return None if found is None else found[1]


def held_in(model: nn.Module) -> tuple[str, Gated] | None:
    """The same with its name in the network, which is empty for the gated network itself.

    Raises:
        FtwtError: it holds several.
    """
    if isinstance(model, Gated):
        return "", model
    if isinstance(model, Escalating):
        return None
    found = {name: one for name, one in model.named_modules() if isinstance(one, Gated)}
    if len(found) > 1:
        raise FtwtError(
            f"{type(model).__name__} holds {len(found)} gated networks ({', '.join(found)}); "
            "attach gates to one part that holds all their sites"
        )
    return next(iter(found.items()), None)


def gates_of(model: nn.Module) -> str | None:
    """What the names of all weights of gates begin with; None where there are none.

    >>> gates_of(model)
    'gates.'
    """
    found = held_in(model)
    return None if found is None else gates_in(found[0])


def gates_in(inside: str) -> str:
    """The same of a network whose gates are to be in a module.

    >>> gates_in("backbone")
    'backbone.gates.'
    """
    return f"{inside}.gates." if inside else "gates."


def part_of(network: nn.Module, inside: str) -> nn.Module:
    """The module of a name inside of a network; the network itself where the name is empty.

    Raises:
        FtwtError: there is none.
    """
    try:
        return network.get_submodule(inside)
    except AttributeError:
        names = [name for name, _ in network.named_modules() if name]
        near = difflib.get_close_matches(inside, names, n=2) or [
            name for name, _ in network.named_children()
        ]
        raise FtwtError(
            f"{type(network).__name__} has no module {inside!r} inside; it has {', '.join(near)}"
        ) from None


def with_part(
    network: nn.Module, inside: str, change: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    """A copy of a network with what `change` makes of a module in its place.

    Raises:
        FtwtError: there is no such module, or others share it or weights with it, which would
            stay as they are.
    """
    part = part_of(network, inside)
    if not inside:
        return change(part)
    own = {id(one) for one in (*part.modules(), *part.parameters(), *part.buffers())}
    everything = (
        *network.named_modules(remove_duplicate=False),
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    )
    outside = (name for name, one in everything if id(one) in own and _is_outside(name, inside))
    if (shared := next(outside, None)) is not None:
        raise FtwtError(
            f"{type(network).__name__} has {shared} in {inside} as well; gates would part the two: "
            "name a module that holds both, or make two of it"
        )
    whole = copy.deepcopy(network)
    whole.set_submodule(inside, change(part))
    return whole


def _is_outside(name: str, inside: str) -> bool:
    return name != inside and not name.startswith(f"{inside}.")


class _SeenError(Exception):
    """Ends a pass at the module that was looked at."""


def example_inside(network: nn.Module, inside: str, run: Callable[[nn.Module], Any]) -> Example:
    """One sample of zeros, as a module inside is given them where `run` runs the network.

    The network is in evaluation mode meanwhile, and runs no further than to that module.

    Raises:
        FtwtError: there is no such module, or it does not run.
    """
    part = part_of(network, inside)
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args, kwargs))
        raise _SeenError

    modes = {module: module.training for module in network.modules()}
    handle = part.register_forward_pre_hook(look, with_kwargs=True)
    try:
        network.eval()
        with torch.no_grad():
            run(network)
    except _SeenError:
        args, kwargs = seen[0]
        if not kwargs:
            return tuple(_zeros(one) for one in args)
        bound = inspect.signature(part.forward).bind(*args, **kwargs).arguments
        return {name: _zeros(one) for name, one in bound.items()}
    finally:
        handle.remove()
        for module, mode in modes.items():
            module.training = mode
    raise FtwtError(
        f"{type(network).__name__} does not run its {inside} on a batch; name a module that it runs"
    )


def _zeros(value: Any) -> Any:
    return torch.zeros_like(value[:1]) if isinstance(value, Tensor) else value


@contextmanager
def noting(model: Gated, *, targets: bool) -> Iterator[list[Trace]]:
    """Keep a trace of each call of a gated network, whoever makes it."""
    notes: list[Trace] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        trace = model.trace(*args, targets=targets, **kwargs)
        notes.append(trace)
        return trace.output

    model.forward = forward  # type: ignore[method-assign]
    try:
        yield notes
    finally:
        del model.forward
