"""Where in a network's output the logits are."""

from collections.abc import Callable, Mapping
from typing import Any

from ftwt.errors import FtwtError

Where = Callable[[Any], Any] | str | int | None


def check_where(task: str, where: Any) -> None:
    """Raise FtwtError unless `where` says where something is."""
    if where is not None and not callable(where) and type(where) not in (str, int):
        raise FtwtError(
            f"{task}: logits={where!r} says nothing about an output; give a name, a place, or a "
            "function such as lambda out: out[0]"
        )


def located(task: str, output: Any, where: Where) -> Any:
    """The part of an output at a name, at a place, or that a function picks.

    Raises:
        FtwtError: there is none.

    >>> located("Classification", ("logits", "features"), 0)
    'logits'
    """
    try:
        match where:
            case None:
                return output
            case str() if isinstance(output, Mapping):
                return output[where]
            case str():
                return getattr(output, where)
            case int():
                return output[where]
            case _:
                return where(output)
    except (LookupError, AttributeError, TypeError) as error:
        how = repr(where) if isinstance(where, (str, int)) else "its function"
        raise FtwtError(
            f"{task}: logits={how} finds nothing in the network's output, a "
            f"{type(output).__name__} ({' '.join(str(error).split())}); give the name or place of "
            "the logits, or a function that picks them"
        ) from None
