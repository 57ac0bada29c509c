"""What a table or figure is: how to train for it, measure it and show it."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ftwt.reports import drawing, page
from ftwt.reports.drawing import Figure
from ftwt.reports.paper.study import Study


class Found(Protocol):
    """What was measured for an item."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain numbers, strings, lists and dicts."""
        ...


FoundT = TypeVar("FoundT", bound=Found)


@dataclass(frozen=True)
class Column:
    """One column: its name in the CSV, its label with unit on the page, and how a value reads."""

    key: str
    label: str
    show: Callable[[Any], str] = str


@dataclass(frozen=True)
class Listing:
    """Rows of values: NAME.csv (or NAME-SUFFIX.csv) as they are, and a table of the page.

    A value that is None stays empty.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    caption: str
    suffix: str = ""

    def table(self) -> page.Table:
        """The page's table."""
        rows = tuple(
            tuple(
                page.NOTHING if row[column.key] is None else column.show(row[column.key])
                for column in self.columns
            )
            for row in self.rows
        )
        return page.Table(tuple(column.label for column in self.columns), rows, self.caption)

    def csv(self) -> str:
        """All rows as comma-separated values, under the columns' keys."""
        text = io.StringIO()
        keys = [column.key for column in self.columns]
        writer = csv.DictWriter(text, keys, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure: NAME.png and NAME.svg (or NAME-SUFFIX), and a picture of the page."""

    figure: Figure
    caption: str
    alt: str
    suffix: str = ""


@dataclass(frozen=True)
class Item(Generic[FoundT]):
    """A table or figure of the paper.

    `train` makes the study have the runs that are needed; `measure` looks at the study's runs,
    wherever they come from, and raises FtwtError where they do not suffice; `show` only draws.
    """

    name: str
    heading: str
    text: str
    train: Callable[[Study], None]
    measure: Callable[[Study], FoundT]
    show: Callable[[FoundT], tuple[Listing | Drawing, ...]]


def percent(digits: int) -> Callable[[float], str]:
    """How a fraction reads as a percentage, without the sign."""
    return lambda fraction: f"{100 * fraction:.{digits}f}".replace("-", drawing.MINUS)


def points(gap: float) -> str:
    """How a difference of two fractions reads in percentage points, with its sign."""
    return f"{100 * gap:+.2f}".replace("-", drawing.MINUS)


def count(number: float) -> str:
    """How a number of things reads."""
    return f"{number:,.0f}"


def fixed(digits: int) -> Callable[[float], str]:
    """How a plain number reads."""
    return lambda number: f"{number:.{digits}f}".replace("-", drawing.MINUS)


ACCURACY = Column("accuracy", "accuracy (%)", percent(2))
EXACT = Column("reduction_exact", "MAC reduction, exact (%)", percent(1))
PAPER = Column("reduction_paper", "MAC reduction, paper's count (%)", percent(1))
