"""What commands print: text for people, or one JSON object on standard output."""

import json
import re
import shlex
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from ftwt.tables import Column

errors = Console(stderr=True)
# What keeps a number and its unit on one line; textwrap breaks at it as little as a reader would.
_NO_BREAK = "\N{NO-BREAK SPACE}"
# A cell that is not broken: a figure, whatever its unit.
_FIGURE = re.compile(r"[-+\N{MINUS SIGN}]?\d[\d,.]*( %| ms| s)?( ± [\d.]+)?")


def report(
    value: dict[str, Any], text: Any, *, as_json: bool, follow: Sequence[object] = ()
) -> None:
    """Print `value` as JSON, or `text` (a string or anything that rich renders).

    `follow` is the command to run next, printed so that it can be pasted.
    """
    if as_json:
        typer.echo(json.dumps(value, indent=2))
        return
    if isinstance(text, str):
        typer.echo(text)
    else:
        show(Console(markup=False), text)
    if follow:
        typer.echo(f"next: {quoted(follow)}")


def show(console: Console, shown: RenderableType) -> None:
    """Print tables and lines of text; a figure and its unit stay on one line at any width."""
    match shown:
        case Group():
            for one in shown.renderables:
                show(console, one)
        case Table():
            for column in shown.columns:
                cells = [str(cell) for cell in column.cells if str(cell)]
                if cells and all(map(_FIGURE.fullmatch, cells)):
                    column.min_width = max(map(len, cells))
            least = Measurement.get(console, console.options, shown).minimum
            # Where there is no room for the figures, lines are too long rather than cut short.
            console.print(shown, width=max(console.width, least), crop=False)
        case str():
            joined = re.sub(r"(\d) (?=%|ms\b|s\b)", rf"\1{_NO_BREAK}", shown)
            for line in joined.splitlines():
                wrapped = textwrap.fill(
                    line, console.width, break_long_words=False, break_on_hyphens=False
                )
                print_plain(console, wrapped.replace(_NO_BREAK, " "))
        case _:
            console.print(shown)


def tell(doing: str) -> None:
    """Say on standard error what is being done; a moving line would disturb what is timed."""
    print_plain(errors, doing)


def print_plain(console: Console, text: str) -> None:
    """Print text as it is: no markup, no emphasis, no line broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def quoted(command: Sequence[object]) -> str:
    """A command as a shell takes it."""
    return shlex.join(map(str, command))


def percent(fraction: float) -> str:
    """A fraction as a percentage."""
    from ftwt.tables import percent as written

    return written(2, " %")(fraction)


def results_columns() -> "tuple[Column, ...]":
    """Accuracy and both reductions, as tables of commands have them."""
    from ftwt.tables import Column

    return (
        Column("accuracy", "accuracy", percent),
        Column("reduction_exact", "MAC reduction, exact", percent),
        Column("reduction_paper", "paper's convention", percent),
    )


def duration(seconds: float) -> str:
    """A span of time in the units that fit: 41 s, 3 min 5 s, 2.4 hours."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{seconds / 3600:.1f} hours"
