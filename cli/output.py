"""What commands print: text for people, or one JSON object on standard output."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console

errors = Console(stderr=True)


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
        Console(soft_wrap=False).print(text)
    if follow:
        typer.echo(f"next: {shlex.join(map(str, follow))}")


def percent(fraction: float) -> str:
    """A fraction as a percentage."""
    return f"{100 * fraction:.2f} %"


def duration(seconds: float) -> str:
    """A span of time in the units that fit: 41 s, 3 min 5 s, 2.4 hours."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{seconds / 3600:.1f} hours"
