"""`ftwt doctor`."""

from typing import TYPE_CHECKING, Any

import typer

from .options import Json, Threads, use_threads
from .output import report, tell

if TYPE_CHECKING:
    from ftwt.reports.doctor import Health

_VERDICTS = {True: "right", False: "wrong", None: "cannot tell"}


def doctor(threads: Threads = None, as_json: Json = False) -> None:
    """What an issue report needs, and whether skipping is right and fast on this machine.

    Takes some seconds. Exit status 1 where a check fails; speed is not judged while other programs
    use the processors.
    """
    from ftwt.reports.doctor import doctor as examine

    use_threads(threads)
    found = examine(tell)
    report(found.to_json(), _tables(found), as_json=as_json)
    if not found.passed:
        raise typer.Exit(1)


def _tables(found: "Health") -> Any:
    from rich.console import Group

    from ftwt.tables import of_text

    packages = {name: one or "not installed, not needed" for name, one in found.packages.items()}
    facts = of_text(("", "here"), {**found.facts, **packages}.items())
    checks = of_text(
        ("check", "", "found"),
        ((one.name, _VERDICTS[one.passed], one.found) for one in found.checks),
    )
    mends = [f"{one.name}: {one.mend}" for one in found.checks if one.passed is not True]
    return Group(facts.rich("This installation"), checks.rich("Checks"), *mends)
