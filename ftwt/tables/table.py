"""Rows of values under columns, in each form in which they are read."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from ftwt.errors import FtwtError
from ftwt.tables.forms import MINUS

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# A cell without a value.
NOTHING = "\N{EN DASH}"
_NUMBER = re.compile(rf"[-+{MINUS}]?[\d.,]+( %)?")
# Cells of a page with at most this many characters are not broken.
_SHORT = 12

RowT = TypeVar("RowT")


@dataclass(frozen=True)
class Column:
    """One column: the key or attribute of its values, its label with unit, and how one reads."""

    key: str
    label: str
    show: Callable[[Any], str] = str


@dataclass(frozen=True)
class Table(Generic[RowT]):
    """Rows of values, each a mapping or an object with attributes; prints as aligned text.

    A value of None reads as `NOTHING`. `total` is a last row that CSV leaves out, in which values
    may be missing. `suffix` tells the files of a report's tables apart.
    """

    columns: tuple[Column, ...]
    rows: Sequence[RowT]
    caption: str = ""
    suffix: str = ""
    total: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """The heads of the columns."""
        return tuple(column.label for column in self.columns)

    def cells(self) -> tuple[tuple[str, ...], ...]:
        """What stands in each row, the last one included."""
        rows = [[_shown(one, _value(row, one.key)) for one in self.columns] for row in self.rows]
        if self.total:
            empty = {one.key: "" for one in self.columns if one.key not in self.total}
            values = {**self.total, **empty}
            rows += [[_shown(one, values[one.key]) for one in self.columns]]
        return tuple(map(tuple, rows))

    def numeric(self) -> tuple[bool, ...]:
        """By column, whether all filled cells are numbers, with one at least."""
        columns = list(zip(*self.cells(), strict=True)) or [()] * len(self.columns)
        filled = ([cell for cell in cells if cell not in ("", NOTHING)] for cells in columns)
        return tuple(bool(cells) and all(map(_NUMBER.fullmatch, cells)) for cells in filled)

    def rich(self, title: str | None = None, *, lines: bool = False) -> "RichTable":
        """The table for rich to print, with `lines` between its rows."""
        from rich.table import Table as RichTable
        from rich.text import Text

        *rows, total = (*self.cells(), *([] if self.total else [("",) * len(self.columns)]))
        table = RichTable(title=title, show_footer=bool(self.total), show_lines=lines)
        for label, foot, number in zip(self.labels, total, self.numeric(), strict=True):
            # Wrapped where there is no room: a name that ends in dots cannot be typed.
            side: Literal["left", "right"] = "right" if number else "left"
            table.add_column(label, foot, justify=side, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        return table

    def html(self) -> str:
        """A `<table>`, everything escaped; columns of numbers are of the class `number`."""
        numeric = self.numeric()
        heads = "".join(
            f'<th scope="col"{_class("number" if number else "")}>{escape(label)}</th>'
            for label, number in zip(self.labels, numeric, strict=True)
        )
        rows = "".join(
            "\n<tr>"
            + "".join(
                f"<td{_class('number' if number else 'short' if len(cell) <= _SHORT else '')}>"
                f"{escape(cell)}</td>"
                for cell, number in zip(row, numeric, strict=True)
            )
            + "</tr>"
            for row in self.cells()
        )
        return f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}\n</tbody></table>"

    def markdown(self) -> str:
        """A pipe table."""
        lines = (
            " | ".join(cell.replace("|", "\\|") for cell in line)
            for line in (self.labels, *self.cells())
        )
        head, *rows = (f"| {line} |" for line in lines)
        return "\n".join([head, "|---" * len(self.columns) + "|", *rows])

    def csv(self) -> str:
        """The values themselves, comma-separated, under the columns' keys."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(column.key for column in self.columns)
        for row in self.rows:
            writer.writerow(_value(row, column.key) for column in self.columns)
        return text.getvalue()

    def __str__(self) -> str:
        lines = [self.labels, *self.cells()]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        numeric = self.numeric()
        return "\n".join(
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(line, widths, numeric, strict=True)
            ).rstrip()
            for line in lines
        )


def of_text(
    labels: Sequence[str], rows: Iterable[Sequence[str]], caption: str = ""
) -> Table[dict[str, str]]:
    """A table of cells that are text already.

    Raises:
        FtwtError: a row has more or fewer cells than there are labels.
    """
    columns = tuple(Column(str(place), label) for place, label in enumerate(labels))
    made = []
    for row in rows:
        if len(row) != len(labels):
            raise FtwtError(
                f"Table: a row has {len(row)} cells ({', '.join(row)}), but there are "
                f"{len(labels)} columns ({', '.join(labels)}); give one cell a column"
            )
        made.append({column.key: cell for column, cell in zip(columns, row, strict=True)})
    return Table(columns, made, caption)


def _value(row: Any, key: str) -> Any:
    return row[key] if isinstance(row, Mapping) else getattr(row, key)


def _shown(column: Column, value: Any) -> str:
    if value is None:
        return NOTHING
    return value if value == "" else column.show(value)


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
