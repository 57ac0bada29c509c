"""Gated networks inside of others, such as the backbone of a detector."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ftwt.errors import FtwtError
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.trace import Trace


def gated_in(model: nn.Module) -> Gated | None:
    """The gated network itself, or the one that a network holds; None where there are no gates.

    Raises:
        FtwtError: it holds several.
    """
    if isinstance(model, Gated):
        return model
    if isinstance(model, Escalating):
        return None
    found = {name: one for name, one in model.named_modules() if isinstance(one, Gated)}
    if len(found) > 1:
        raise FtwtError(
            f"{type(model).__name__} holds {len(found)} gated networks ({', '.join(found)}); "
            "attach gates to one part that holds all their sites"
        )
    return next(iter(found.values()), None)


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
