"""`ftwt widen`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import Json, percent, report
from .training import Data, Device, ImageSize, Threads, Workers, _set_threads

if TYPE_CHECKING:
    from ftwt.training import Recipe


def widen(
    run: Annotated[Path, typer.Argument(help="A finished run with gates.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    reductions: Annotated[
        str, typer.Option(help="Shares of MACs to save: first:last:step, or a list.")
    ] = "0.3:0.6:0.1",
    epochs: Annotated[int, typer.Option(help="Epochs of training.", min=1)] = 4,
    lr: Annotated[float, typer.Option(help="The cycle's highest learning rate.")] = 0.02,
    limit: Annotated[
        int | None, typer.Option(help="Train on that many images, a fixed subset.")
    ] = None,
    image_size: ImageSize = None,
    seed: Annotated[int, typer.Option(help="Of order, augmentation and reductions.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, to the same numbers.")
    ] = False,
    device: Device = "cpu",
    threads: Threads = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Train a gated run on for a range of reductions: one set of weights, several budgets."""
    from ftwt import budget
    from ftwt import data as datasets
    from ftwt.training import runs
    from ftwt.training.folders import check_free

    from .numbers import span
    from .progress import watching

    _set_threads(threads)
    wanted = span(reductions, "--reductions")
    if not (resume and budget.waits_for_calibration(out, "budgets")):
        check_free(out, resume)
    runs.check_device(device)
    dataset = datasets.load(data, size=image_size, limit=limit, only="train", workers=workers)
    with ExitStack() as stack:
        watch = stack.enter_context(watching(out.name, epochs))

        def train(recipe: "Recipe") -> tuple[Any, dict[str, Any]]:
            return runs.train_run(
                recipe, dataset, out,
                name=f"widen {run.name}", init=run, resume=resume, device=device, watch=watch,
            )  # fmt: skip

        _, record = budget.widen(
            run, dataset, out,
            reductions=wanted, train=train, epochs=epochs, lr=lr, seed=seed, device=device,
        )  # fmt: skip
    report(record, _table(record, out, data), as_json=as_json)


def _table(record: dict[str, Any], out: Path, data: str) -> Any:
    from rich.console import Group
    from rich.table import Table

    table = Table("asked", "before", "after", "MAC reduction, exact", title="validation accuracy")
    for row in record["budgets"]:
        after = row["after"]
        table.add_row(
            percent(row["reduction"]), percent(row["before"]["accuracy"]),
            percent(after["accuracy"]), percent(after["reduction_exact"]),
        )  # fmt: skip
    asked = ",".join(f"{row['reduction']:g}" for row in record["budgets"])
    return Group(table, f"next: ftwt eval {out} --data {data} --reductions {asked}")
