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
    from rich.table import Table

    facts = Table("", "here", title="This installation")
    for name, value in found.facts.items():
        facts.add_row(name, value)
    for package, version in found.packages.items():
        facts.add_row(package, version or "not installed, not needed")
    checks = Table("check", "", "found", title="Checks")
    for check in found.checks:
        checks.add_row(check.name, "right" if check.passed else "wrong", check.found)
    mends = [f"{check.name}: {check.mend}" for check in found.checks if not check.passed]
    return Group(facts, checks, *mends)
