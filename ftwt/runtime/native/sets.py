"""Live expressions as numbered sets, each shared one once."""

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass, field

from ftwt.graph import live
from ftwt.graph.live import Live
from ftwt.runtime.native import structs


@dataclass
class Sets:
    """The sets that a segment's steps need, in the order in which they can be worked out."""

    made: dict[str, int]  # sites gated inside: name -> number of the mask
    given: dict[str, int] = field(default_factory=dict)  # sites gated outside
    widths: dict[str, int] = field(default_factory=dict)
    rows: list[structs.CSet] = field(default_factory=list)
    _numbers: dict[object, int] = field(default_factory=dict)
    _kept: list[object] = field(default_factory=list)

    def number(self, expression: Live, before: int) -> int:
        """The set's number; it is worked out before step `before`, or sooner if asked sooner."""
        key = _key(expression)
        if key not in self._numbers:
            # Expressions go by identity, so one that is known must stay.
            self._kept.append(expression)
            row = self._row(expression, before)
            row.width, row.before = expression.width, before
            self.rows.append(row)
            self._numbers[key] = len(self.rows) - 1
        return self._numbers[key]

    def same(self, one: Live, two: Live) -> bool:
        """Whether both are surely the same set."""
        return _key(one) == _key(two)

    def _row(self, expression: Live, before: int) -> structs.CSet:
        match expression:
            case live.All():
                return structs.CSet(kind=structs.SETS["all"])
            case live.OfSite(site, width):
                if site in self.made:
                    return structs.CSet(kind=structs.SETS["made"], number=self.made[site])
                self.widths[site] = width
                number = self.given.setdefault(site, len(self.given))
                return structs.CSet(kind=structs.SETS["given"], number=number)
            case live.Union(parts):
                return self._combined("union", parts, before)
            case live.Intersection(parts):
                return self._combined("intersection", parts, before)
            case live.Concatenation(parts):
                return self._combined("concat", parts, before)
            case live.Reorder(source, index):
                row = self._combined("reorder", (source,), before)
                row.index = self._ints(index)
                return row

    def _combined(self, kind: str, parts: Iterable[Live], before: int) -> structs.CSet:
        numbers = [self.number(part, before) for part in parts]
        return structs.CSet(kind=structs.SETS[kind], parts=len(numbers), part=self._ints(numbers))

    def _ints(self, numbers: Iterable[int]) -> ctypes.Array[ctypes.c_int32]:
        listed = list(numbers)
        array = (ctypes.c_int32 * len(listed))(*listed)
        self._kept.append(array)
        return array


def _key(expression: Live) -> object:
    match expression:
        case live.All(width):
            return ("all", width)
        case live.OfSite(site):
            return ("site", site)
        case _:
            return expression
