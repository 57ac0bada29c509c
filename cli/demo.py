"""`ftwt demo`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json
from .output import errors, report, results_columns
from .output import show as show_table

if TYPE_CHECKING:
    from ftwt.reports.analysis import Curve
    from ftwt.training.recipes import Recipe
    from ftwt.training.runs import Callbacks


def demo(
    out: Annotated[
        Path | None, typer.Option(help="New folder; by default demo, or the next free demo-2, ...")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of images, order, new weights.", min=0)] = 0,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of each training; 12, 5 and 3 by default.", min=1)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Train and test on so many images; all by default.", min=1),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train, gate and test a small network on embedded images; writes a page to look at."""
    from rich.console import Group

    from ftwt.reports import demo as whole
    from ftwt.training.phases import epochs_of

    from .progress import watching

    with ExitStack() as bars:

        def training(label: str, recipe: "Recipe") -> "Callbacks":
            bars.close()
            return bars.enter_context(watching(label, epochs_of(recipe.settings.phases)))

        def line(text: str) -> None:
            bars.close()
            errors.print(text, style="bold")

        show = whole.Show(line=line, curve=_print_curve(as_json), training=training)
        result = whole.run_demo(out or _free("demo"), show, seed=seed, epochs=epochs, limit=limit)
    report(result, Group(*_tables(result)), as_json=as_json)
    if not as_json:
        typer.echo("next, on your own images:")
        for line in result["next"]:
            typer.echo(f"  {line}")
        typer.echo(f"look at {result['page']}")


def _free(name: str) -> Path:
    """The first of name, name-2, name-3, ... that does not exist."""
    path, count = Path(name), 1
    while path.exists():
        count += 1
        path = Path(f"{name}-{count}")
    return path


def _print_curve(quiet: bool) -> Callable[["Curve"], None]:
    def show(curve: "Curve") -> None:
        from ftwt.tables import Column, Table

        columns = (Column("mass", "oracle, mass", "{:g}".format), *results_columns())
        show_table(errors, Table(columns, curve.rows).rich())

    return (lambda curve: None) if quiet else show


def _tables(result: dict[str, Any]) -> Iterator[Any]:
    from ftwt.tables import Column, Table, count, fixed

    unknown = {"reduction_exact": None, "reduction_paper": None, "seconds": None}
    networks = [
        {
            **unknown,
            "network": "dense",
            "accuracy": result["dense_accuracy"],
            "seconds": result["dense_seconds"],
        },
        {**result, "network": "gated", "seconds": result["gated_seconds"]},
    ]
    networks += [
        {**unknown, **one, "network": "budget for each image"}
        for one in result["shared"]["budgets"]
    ]
    columns = (
        Column("network", ""),
        *results_columns(),
        Column("seconds", "training, s", count),
    )
    yield Table(columns, networks).rich()
    times = (Column("network", "network"), Column("by", "run by"))
    yield Table((*times, Column("ms", "ms, one image", fixed(2))), result["milliseconds"]).rich()
    yield f"gates: {result['dynamism']['verdict']}"
    yield f"budget for each image: {result['shared']['dynamism']['verdict']}"
