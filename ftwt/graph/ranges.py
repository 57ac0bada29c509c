"""A `range` that takes sizes, for the files that traced forwards are written in."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Ranges:
    """Lends files a `range` of their own, whose bounds `number` turns into plain numbers."""

    def __init__(self, number: Callable[[Any], Any]) -> None:
        self._number = number
        # Names of files that have it.
        self._files: list[dict[str, Any]] = []

    def lend(self, forward: Callable[..., Any]) -> None:
        """Lend it to the file of a forward, unless that has a `range` itself."""
        names = getattr(inspect.unwrap(forward), "__globals__", {})
        if "range" not in names:
            names["range"] = self._range
            self._files.append(names)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """At the end, all files give it back."""
        try:
            yield
        finally:
            for names in self._files:
                del names["range"]
            self._files = []

    def _range(self, *bounds: Any) -> range:
        return range(*map(self._number, bounds))
