"""`ftwt sweep`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import Data, ImageSize, Json, Limit, Threads, data_beside, use_threads
from .output import errors, percent, report


def sweep(
    recipe: Annotated[
        str, typer.Argument(help="A name that `ftwt recipes` lists, a recipe file, or a network.")
    ],
    init: Annotated[str, typer.Option(help="The dense run that every training starts from.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs; new, or of the same sweep.")],
    mass: Annotated[str, typer.Option(help="Heatmap masses, rising: 0.8,0.9.")],
    data: Data = "",
    seeds: Annotated[int, typer.Option(help="Runs for each mass.", min=1)] = 3,
    jobs: Annotated[int, typer.Option(help="Runs at a time on this machine.", min=1)] = 1,
    executor: Annotated[
        str,
        typer.Option(
            help="Where runs are computed: local, dask:ADDRESS of a scheduler, or "
            "my_module:function that returns an executor of concurrent.futures."
        ),
    ] = "local",
    coupling: Annotated[
        Literal["decoupled", "joint"],
        typer.Option(help="Whether the gates' loss reaches the backbone (joint)."),
    ] = "decoupled",
    normalize: Annotated[
        Literal["softmax", "layer", "none"], typer.Option(help="What gates do to pooled inputs.")
    ] = "softmax",
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    limit: Limit = None,
    image_size: ImageSize = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train and test a recipe over masses and seeds; runs what is missing, draws the trade-off."""
    from ftwt.budget.sweep import Sweep, run_sweep, summed_up
    from ftwt.reports import drawing
    from ftwt.reports.budget_plot import sweep_plot
    from ftwt.training import Overrides

    from .numbers import numbers

    drawing.require()
    use_threads(threads)
    data = data_beside(recipe, data)
    overrides = Overrides(coupling=coupling, normalize=normalize, epochs=epochs)
    record = run_sweep(
        Sweep(recipe, data, init, overrides, limit, image_size),
        out,
        numbers(mass, "--mass"),
        seeds=seeds,
        jobs=jobs,
        executor=executor,
        done=lambda job: errors.print(f"finished {job.out}"),
    )
    rows = summed_up(out)
    drawing.save_figure(sweep_plot(rows, record["dense_accuracy"], title=recipe), out, "tradeoff")
    report(record, _table(record), as_json=as_json)


def _table(record: dict[str, Any]) -> Any:
    from ftwt.tables import is_share, of_text

    rows, score = [], "accuracy"
    for row in record["rows"]:
        cells, score = [], row["score"]
        for name in ("accuracy", "reduction_exact", "reduction_paper"):
            share = name != "accuracy" or is_share(score)
            value, spread = row[name], row[f"std_{name}"]
            text = percent(value) if share else f"{value:.4g}"
            wide = f"{100 * (spread or 0):.2f}" if share else f"{spread or 0:.2g}"
            cells.append(text if spread is None else f"{text} ± {wide}")
        rows.append((f"{row['mass']:g}", str(row["runs"]), *cells))
    heads = ("mass", "runs", score, "MAC reduction, exact", "paper's convention")
    return of_text(heads, rows).rich()
