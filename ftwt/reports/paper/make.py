"""Making items: train what is missing, measure, write files, make the page."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from ftwt.errors import FtwtError
from ftwt.reports import drawing
from ftwt.reports.paper.ahead import train_ahead
from ftwt.reports.paper.item import Item
from ftwt.reports.paper.study import Study
from ftwt.reports.paper.write import note_missing, write_item, write_page


def make(
    study: Study,
    wanted: Sequence[Item[Any]],
    *,
    made: dict[str, str],
    say: Callable[[str], None] = lambda text: None,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Make some items of a study, and the page of all that its folder holds.

    Each item is written as soon as it is measured. With given runs nothing is trained, and of
    several items those that the runs do not suffice for are left out; the page says why.

    Args:
        study: the runs, or where to train them.
        wanted: what to make.
        made: how this is made (command, versions), one row of the page each.
        say: where progress goes, one line each.
        executor: trains what is known beforehand, any of `concurrent.futures`; its workers see the
            same files. None trains one by one in this process.

    Returns:
        For each item what it measured, or a text that says why it was left out.

    Raises:
        FtwtError: matplotlib is missing, or the only item wanted cannot be made from the runs.
    """
    drawing.require()
    if not study.given and executor is not None:
        say("training what is needed, all at once")
        train_ahead(study, wanted, executor)
    if not study.given:
        for item in wanted:
            say(f"training what {item.name} needs")
            item.train(study)
    values: dict[str, Any] = {}
    for item in wanted:
        say(f"measuring {item.name}")
        try:
            found = item.measure(study)
        except FtwtError as error:
            if len(wanted) == 1 or not study.given:
                raise
            values[item.name] = str(error)
            note_missing(study.folder, item, str(error))
            continue
        values[item.name] = item.plain(found)
        write_item(study.folder, item, found, _about(study))
    write_page(study.folder, made=made)
    return values


def _about(study: Study) -> dict[str, Any]:
    kept = ("command", "recipe", "data", "init", "seed", "device", "threads", "epochs", "hours")
    runs = [
        {"name": run.name, "network": run.network, "how": run.how}
        | {key: run.record.get(key) for key in kept}
        for run in study.runs
    ]
    return {
        "data": study.dataset.name,
        "test_images": len(study.test),
        "scale": study.scale.name,
        "runs": runs,
    }
