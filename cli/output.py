"""What commands print: text for people, or one JSON object on standard output."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

errors = Console(stderr=True)


def report(value: dict[str, Any], text: Any, *, as_json: bool) -> None:
    """Print `value` as JSON, or `text` (a string or anything that rich renders)."""
    if as_json:
        typer.echo(json.dumps(value, indent=2))
    else:
        Console(soft_wrap=False).print(text)


def percent(fraction: float) -> str:
    """A fraction as a percentage."""
    return f"{100 * fraction:.2f} %"
