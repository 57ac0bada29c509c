"""The Typer app and its entry point."""

import os
import sys
from typing import Annotated

import typer

from . import bench, demo, estimate, networks, paper, recipes, slim, sweep, training, widen
from .output import errors

app = typer.Typer(
    help="Convolutional networks that choose, for each input, which filters to run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(recipes.recipes)
app.command()(training.train)
app.command("eval")(training.evaluate)
app.command()(widen.widen)
app.command()(estimate.estimate)
app.command()(bench.bench)
app.command()(sweep.sweep)
app.command()(slim.slim)
app.command()(networks.macs)
app.command()(networks.sites)
app.command()(paper.paper)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ftwt {version('ftwt')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Convolutional networks that choose, for each input, which filters to run."""


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit status 2.

    A training that SIGTERM or SIGINT stopped exits with 128 and the signal.
    """
    try:
        app()
    except Exception as error:
        # Imported here: ftwt imports torch, which --help does not wait for.
        from ftwt.errors import FtwtError

        if not isinstance(error, FtwtError):
            raise
        in_job = "TORCHELASTIC_RUN_ID" in os.environ
        who = f"ftwt, rank {os.environ['RANK']}" if in_job else "ftwt"
        errors.print(f"{who}: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
