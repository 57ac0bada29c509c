"""The Typer app and its entry point."""

import os
import re
import sys
from typing import Annotated, Any, NoReturn

import typer

from . import (
    advise,
    bench,
    demo,
    doctor,
    estimate,
    evaluation,
    export,
    networks,
    paper,
    recipes,
    slim,
    sweep,
    training,
    widen,
)
from .output import errors

app = typer.Typer(
    help="Convolutional networks that choose, for each input, which filters to run.",
    pretty_exceptions_enable=False,
)
_PANELS = {
    "Begin": (doctor.doctor, demo.demo, advise.advise),
    "Train and test": (
        recipes.recipes, training.train, evaluation.evaluate, widen.widen, sweep.sweep, slim.slim,
    ),
    "Look before": (networks.macs, networks.sites, estimate.estimate, bench.bench),
    "Use elsewhere": (export.export,),
    "The paper": (paper.paper,),
}  # fmt: skip
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        _name = "eval" if _command is evaluation.evaluate else _command.__name__
        app.command(_name, rich_help_panel=_panel)(_command)

_BEGIN = """\
ftwt: convolutional networks that choose, for each input, which filters to run

Three things to do first:
  ftwt doctor                               is all here that makes it fast, and is it right?
  ftwt demo                                 the whole method in minutes, on drawn images
  ftwt advise NETWORK --data imagefolder:DIR
                                            what your network would gain, and what to run next

ftwt --help lists every command; ftwt COMMAND --help its options."""

# Of typer, whichever click it brings.
_UsageError: Any = typer.BadParameter.__mro__[1]
# Options that have another name than the argument of the function.
_OPTIONS = {"size": "image_size", "rounds": "repeats"}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ftwt {version('ftwt')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Convolutional networks that choose, for each input, which filters to run."""
    if context.invoked_subcommand is None:
        typer.echo(_BEGIN)


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit status 2.

    A training that SIGTERM or SIGINT stopped exits with 128 and the signal.
    """
    try:
        status = app(standalone_mode=False)
    except _UsageError as error:
        # What typer says of a wrong option, in one line too.
        where = getattr(error.ctx, "command_path", "ftwt").partition("ftwt")[2]
        _fail(f"{_misused(error)}; see ftwt{where} --help", error.exit_code)
    except typer.Abort:
        _fail("stopped", 1)
    except Exception as error:
        # Imported here: ftwt imports torch, which --help does not wait for.
        from ftwt.errors import FtwtError

        if not isinstance(error, FtwtError):
            raise
        _fail(in_options(_with_import(str(error)), sys.argv), error.exit_status)
    sys.exit(status)


def _misused(error: Any) -> str:
    """What typer says of a wrong option, with the value that came."""
    text: str = error.format_message().rstrip(".").removeprefix("Invalid value: ")
    if not hasattr(error.__cause__, "errors"):
        return text
    # Pydantic's, whose text is on "Input" and how it was looked at.
    came = error.__cause__.errors()[0]["input"]
    text = text.replace("Value error, ", "").partition(", unable to parse")[0]
    return text.replace(": Input should", f": {came} should")


def _fail(text: str, status: int) -> NoReturn:
    """One line on standard error, and the end of this process."""
    in_job = "TORCHELASTIC_RUN_ID" in os.environ
    who = f"ftwt, rank {os.environ['RANK']}" if in_job else "ftwt"
    errors.print(f"{who}: {text}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(status)


def _with_import(text: str) -> str:
    """A message about a network or part of the user's own, with the option that imports it."""
    found = re.search(r"'([\w.]+):([\w.]+)' is not registered in this process", text)
    if found is None:
        return text
    return f"{text}; here --network {found[1]}:{found[2]}, or the recipe file that it was made by"


def in_options(text: str, command: list[str]) -> str:
    """A message with `--clip-norm -1` where it says `clip_norm=-1`, for options of the command."""
    given = {part.partition("=")[0] for part in command if part.startswith("--")}

    def renamed(match: re.Match[str]) -> str:
        option = "--" + _OPTIONS.get(match[1], match[1]).replace("_", "-")
        return f"{option} {match[2]}" if option in given else match[0]

    return re.sub(r"\b([a-z]\w*)=((?:'[^']*'|[^\s,;)])+)", renamed, text)


if __name__ == "__main__":
    main()
