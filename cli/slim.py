"""`ftwt slim`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import Json, percent, report
from .training import Data, Device, ImageSize, Threads, Workers, _set_threads

if TYPE_CHECKING:
    from ftwt.reports.analysis import Slim


def slim(
    run: Annotated[Path, typer.Argument(help="A run folder with gates, or a saved model.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="New folder for the smaller network.")],
    limit: Annotated[
        int | None, typer.Option(help="Look at only so many training images.", min=1)
    ] = None,
    image_size: ImageSize = None,
    device: Device = "cpu",
    threads: Threads = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Remove for good the filters that run for no training image: a smaller network with gates."""
    from ftwt.reports.analysis.slimming import slim_run

    from .progress import counting

    _set_threads(threads)
    with counting("looking at training images, twice") as watch:
        found, value = slim_run(
            run, data, out,
            limit=limit, size=image_size, device=device, workers=workers, watch=watch,
        )  # fmt: skip
    report(value, _table(run, out, data, found), as_json=as_json)


def _table(run: Path, out: Path, data: str, found: "Slim") -> Any:
    from rich.console import Group
    from rich.table import Table

    removal, same = found.removal, found.agreement
    table = Table("", "whole", "left", "left, %", title=f"{run} without filters that never run")
    for what, whole, left in (
        ("filters of the sites", removal.filters, removal.filters_left),
        ("parameters, without gates", removal.parameters, removal.parameters_left),
        ("MACs with every filter running", removal.macs, removal.macs_left),
    ):
        table.add_row(what, f"{whole:,}", f"{left:,}", percent(left / whole))
    return Group(
        table,
        f"over these {same.images:,} training images: the same class for {same.same_class:,}, "
        f"outputs within {same.largest_difference:.1e} of the largest",
        f"next: ftwt eval {out} --data {data}",
    )
