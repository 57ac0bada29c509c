"""`ftwt paper`."""

import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Data, ImageSize, Json, Threads, use_threads
from .output import errors, report

if TYPE_CHECKING:
    from ftwt.reports.paper import Scale
    from ftwt.training.runs import Callbacks


def paper(
    name: Annotated[
        str,
        typer.Argument(
            help="table1, table2, table3, fig1, fig2, fig3, static, ood, or all of them."
        ),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the report; made anew or gone on with.")],
    scale: Annotated[
        str,
        typer.Option(help="tiny (seconds), smoke (minutes), short (an hour or two), full (days)."),
    ] = "smoke",
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Finished runs to look at instead of training; may be given again."),
    ] = None,
    start: Annotated[
        list[Path] | None,
        typer.Option(help="Finished plain run to start from; may be given again."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Train by this recipe.")] = None,
    mass: Annotated[str | None, typer.Option(help="Heatmap masses, such as 0.85,0.7.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds table2 takes.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of fig3.")] = None,
    image: Annotated[
        list[int] | None,
        typer.Option(help="Test image of fig3 by its place; may be given again."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of trainings, and of the images chosen.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Measure on only so many test images.")
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            help="Train ahead there: dask:ADDRESS, or my_module:function; see ftwt sweep."
        ),
    ] = None,
    image_size: ImageSize = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Tables and figures of the paper as PNG, SVG, CSV and JSON, and one page that holds them."""
    from ftwt import data as datasets
    from ftwt.budget import executors
    from ftwt.reports.paper import Study, claim, items, make, read_runs
    from ftwt.training.folders import claimed

    from .progress import watching

    use_threads(threads)
    wanted = items(name)
    size = _scale(scale, data, recipe, mass, seeds)
    if limit is not None:
        size = replace(size, test_images=limit)
    given, starts = read_runs(runs or ()), read_runs(start or ())
    about = {
        "data": data,
        "image_size": image_size,
        "test_images": size.test_images,
        "scale": size.name,
        "recipe": size.effort.recipe,
        "seed": seed,
        "runs": [str(run.folder) for run in given],
        "starts": [str(run.folder) for run in starts],
    }
    claim(out, about)
    with claimed(out, "paper"), ExitStack() as bars:

        def callbacks(label: str, epochs: int) -> "Callbacks":
            bars.close()
            return bars.enter_context(watching(label, epochs))

        def say(text: str) -> None:
            bars.close()
            errors.print(text, style="bold", highlight=False)

        dataset = datasets.load(data, size=image_size, seed=0)
        study = Study(
            out, dataset, size, given, starts, seed=seed, layer=layer,
            places=tuple(image) if image else None, callbacks=callbacks,
        )  # fmt: skip
        pool = executors.executor_named(executor) if executor is not None else nullcontext()
        with pool as trains:
            found = make(study, wanted, made=_made(), say=say, executor=trains)
    page = out / "index.html"
    lines = [
        f"{one}: {'left out, ' + value if isinstance(value, str) else out / f'{one}.json'}"
        for one, value in found.items()
    ]
    report(
        {"page": str(page), "items": found},
        "\n".join([*lines, f"look at {page}"]),
        as_json=as_json,
    )


def _scale(
    name: str, data: str, recipe: str | None, mass: str | None, seeds: int | None
) -> "Scale":
    """The scale with what the user chose instead."""
    from ftwt.errors import FtwtError
    from ftwt.reports import paper
    from ftwt.targets import HeatmapMass
    from ftwt.training import Overrides
    from ftwt.training import recipe as make_recipe

    chosen = paper.scale(name, data)
    changes: dict[str, Any] = {}
    if recipe is not None:
        # An unknown name is told with those that are near.
        changes["network"] = make_recipe(recipe, Overrides()).network
        changes["effort"] = replace(chosen.effort, recipe=recipe)
    if mass is not None:
        try:
            changes["masses"] = tuple(float(one) for one in mass.split(","))
        except ValueError:
            raise FtwtError(
                f"paper: --mass {mass!r} is no list of numbers; give for example 0.9,0.8"
            ) from None
        for one in changes["masses"]:
            HeatmapMass(one)  # one that cannot be is told before anything is made
    if seeds is not None:
        changes["seeds"] = seeds
    return replace(chosen, **changes)


def _made() -> dict[str, str]:
    import torch

    from ftwt.training.records import versions

    return {
        "command": " ".join(["ftwt", *sys.argv[1:]]),
        **versions(),
        "threads": str(torch.get_num_threads()),
    }
