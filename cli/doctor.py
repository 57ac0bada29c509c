"""`ftwt doctor`."""

from typing import TYPE_CHECKING, Any

import typer

from .options import Json, Threads, use_threads
from .output import report

if TYPE_CHECKING:
    from ftwt.reports.doctor import Health


def doctor(threads: Threads = None, as_json: Json = False) -> None:
    """What an issue report needs, and whether skipping is right and fast on this machine.

    Takes some seconds. Exit status 1 where a check fails.
    """
    from ftwt.reports.doctor import doctor as examine

    use_threads(threads)
    found = examine()
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
        ((one.name, "right" if one.passed else "wrong", one.found) for one in found.checks),
    )
    mends = [f"{check.name}: {check.mend}" for check in found.checks if not check.passed]
    return Group(facts.rich("This installation"), checks.rich("Checks"), *mends)
