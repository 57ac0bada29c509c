"""A `range` that takes traced sizes, for the files that ask for one.

Python's own takes nothing but an integer, and a traced size must not be one: each operation of
torch would take it for a constant then. So files are lent another `range` while they are traced.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import Any

from ftwt.graph.proxies import Valued


def names_at(error: Exception) -> dict[str, Any] | None:
    """Global names of the file that raised, None if it does not have Python's own `range`."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    names = frame.f_globals
    # Not of this file, where a lent one raises as Python's does.
    return names if names.get("range", range) is range and names is not globals() else None


@contextmanager
def lent(names: dict[str, Any]) -> Iterator[None]:
    """Let `range` take traced sizes, settled from the example, in a file with these names."""
    imported = "range" in names
    names["range"] = _range
    try:
        yield
    finally:
        if imported:
            names["range"] = range
        else:
            del names["range"]


def _range(*bounds: Any) -> range:
    return range(*map(_settled, bounds))


def _settled(bound: Any) -> Any:
    return bound.tracer.settle(index, bound) if isinstance(bound, Valued) else bound
