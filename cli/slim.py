"""`ftwt slim`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Images, Json, Machine, Own, grouped, import_own, own_option
from .output import percent, report

if TYPE_CHECKING:
    from ftwt.reports.analysis import Slim


@grouped
def slim(
    run: Annotated[Path, typer.Argument(help="A run folder with gates, or a saved model.")],
    images: Images,
    machine: Machine,
    out: Annotated[Path, typer.Option(help="New folder for the smaller network.")],
    round_to: Annotated[
        int, typer.Option(help="Keep filters until their numbers are multiples of this.", min=1)
    ] = 1,
    network: Own = None,
    as_json: Json = False,
) -> None:
    """Remove for good the filters that run for no training image: a smaller network with gates."""
    from ftwt.reports.analysis.slimming import slim_run

    from .progress import counting

    machine.prepare()
    import_own(network)
    with counting("looking at training images, twice") as progress:
        found, value = slim_run(
            run, images.data, out,
            limit=images.limit, round_to=round_to, size=images.image_size,
            device=machine.device, workers=images.workers, progress=progress,
        )  # fmt: skip
    follow = ("ftwt", "eval", out, *images.named(), *own_option(network), *machine.named())
    report(value, _table(run, found), as_json=as_json, follow=follow)


def _table(run: Path, found: "Slim") -> Any:
    from rich.console import Group

    from ftwt.tables import of_text

    removal, same = found.removal, found.agreement
    counts = (
        ("filters of the sites", removal.filters, removal.filters_left),
        ("parameters, without gates", removal.parameters, removal.parameters_left),
        ("MACs with every filter running", removal.macs, removal.macs_left),
    )
    rows = [(what, f"{all_:,}", f"{left:,}", percent(left / all_)) for what, all_, left in counts]
    alike = "" if same.same_class is None else f"the same class for {same.same_class:,.10g}, "
    return Group(
        of_text(("", "whole", "left", "left, %"), rows).rich(
            f"{run} without filters that never run"
        ),
        f"over these {same.images:,} training images: {alike}"
        f"outputs within {same.largest_difference:.1e} of the largest",
    )
