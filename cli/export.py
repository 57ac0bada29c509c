"""`ftwt export`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json
from .output import report

if TYPE_CHECKING:
    from ftwt.export import Exported


class Format(StrEnum):
    """What is written."""

    native = "native"


def export(
    run: Annotated[Path, typer.Argument(help="A run folder with gates, or a saved model.")],
    format: Annotated[Format, typer.Option(help="native: a folder for C.")] = Format.native,
    out: Annotated[
        Path | None, typer.Option(help="Where to; beside the run's own files if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a network so that other programs can run it, and check what was written."""
    from ftwt.export import export as write

    found = write(run, out, format=format.value)
    value = {
        "path": str(found.path), "format": found.format, "files": dict(found.files),
        "check": found.check,
    }  # fmt: skip
    report(value, _table(found), as_json=as_json)


def _table(found: "Exported") -> Any:
    from rich.console import Group
    from rich.table import Table

    table = Table("file", "bytes", title=str(found.path))
    rows = {name: size for name, size in found.files.items() if not name.startswith("libftwt/")}
    for name, size in rows.items():
        table.add_row(name, f"{size:,}")
    rest = [size for name, size in found.files.items() if name not in rows]
    if rest:
        table.add_row(f"libftwt/ ({len(rest)} files)", f"{sum(rest):,}")
    return Group(table, found.check)
