"""Progress of a training, by rich, on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .output import duration, errors, percent, print_plain, show

if TYPE_CHECKING:
    from ftwt.training.epoch import StepEvent
    from ftwt.training.loop import Epoch
    from ftwt.training.metrics import EpochMeans
    from ftwt.training.runs import Callbacks

# Reading the losses waits for the device: not at every step.
_SECONDS = 1.0
# Without a terminal: seconds until a line, and the share of the time so far where that is longer.
_LINE_SECONDS, _LINE_SHARE = 10.0, 0.05


@contextmanager
def watching(label: str, epochs: int) -> Iterator["Callbacks"]:
    """Show how far a training is, and a line at the end of each epoch.

    On a terminal a bar; elsewhere, such as in a log, a line every so often.
    """
    from ftwt.training.runs import Callbacks

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[means]}"),
    )
    quiet = not errors.is_terminal
    with Progress(*columns, console=errors, transient=True, disable=quiet) as progress:
        task = progress.add_task(label, total=None, means="")
        looked = 0.0
        log = _Log(label, epochs)

        def step(event: "StepEvent") -> None:
            nonlocal looked
            if quiet:
                log.step(event)
                return
            done = event.epoch * event.batches + event.batch
            progress.update(task, total=epochs * event.batches, completed=done)
            if time.monotonic() - looked > _SECONDS:
                looked = time.monotonic()
                about = f"{label} {event.epoch + 1}/{epochs} {event.phase}"
                progress.update(
                    task, description=about, means=", ".join(now(event.metrics.means()))
                )

        def say(text: str) -> None:
            # A log has whole lines, to be searched.
            print_plain(errors, text) if quiet else show(progress.console, text)

        def epoch(row: "Epoch") -> None:
            say(describe(row, epochs))

        def note(text: str) -> None:
            say(f"note: {text}")

        yield Callbacks(step=step, epoch=epoch, note=note)


class _Log:
    """Lines on how far a training is, now and then."""

    def __init__(self, label: str, epochs: int) -> None:
        self._label, self._epochs = label, epochs
        self._said = time.monotonic()
        # When the first step was done, and how many were: what comes before it, such as compiling,
        # does not come again, and a run that goes on has done a part already.
        self._began: tuple[float, int] | None = None

    def step(self, event: "StepEvent") -> None:
        """Say how far it is, if it is time to."""
        whole = self._epochs * event.batches
        done = event.epoch * event.batches + event.batch
        at = time.monotonic()
        if self._began is None:
            self._began = at, done
            return
        passed = at - self._began[0]
        if at - self._said < max(_LINE_SECONDS, _LINE_SHARE * passed) or done == whole:
            return
        self._said = at
        left = passed * (whole - done) / (done - self._began[1])
        parts = [
            f"{self._label}: epoch {event.epoch + 1}/{self._epochs} ({event.phase})",
            f"{100 * done / whole:.0f} % done",
            f"about {duration(left)} left",
            *now(event.metrics.means()),
        ]
        print_plain(errors, ", ".join(parts))


def now(means: "EpochMeans") -> list[str]:
    """Running means of an epoch in words."""
    parts = [f"{name} {value:.3f}" for name, value in means.losses.items()]
    if means.accuracy is not None:
        parts.append(f"train {percent(means.accuracy)}")
    if means.mask_accuracy is not None:
        parts.append(f"masks {percent(means.mask_accuracy)}")
    return [*parts, f"{means.images_per_second:.0f} images/s"]


def describe(row: "Epoch", epochs: int) -> str:
    """One line on one epoch."""
    from ftwt.tables import metric

    losses = ", ".join(f"{name} {value:.3f}" for name, value in row.losses.items())
    parts = [
        f"epoch {row.epoch + 1}/{epochs} ({row.phase}): {losses}",
    ]
    if row.train_accuracy is not None:
        parts.append(f"train {percent(row.train_accuracy)}")
    parts += [
        f"{'validation' if name == 'accuracy' else name} {metric(name, value)}"
        for name, value in row.validation.metrics.items()
    ]
    if row.mask_accuracy is not None:
        parts.append(f"masks {percent(row.mask_accuracy)}")
    if row.validation.macs < row.validation.dense_macs:
        parts.append(f"MAC reduction {percent(row.validation.reduction_exact)} exact")
    parts.append(f"{row.images_per_second:.0f} images/s")
    return ", ".join(parts)


@contextmanager
def working(doing: str) -> Iterator[None]:
    """Show on a terminal what is being done, and for how long; nothing of it stays."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        bar.add_task(doing, total=None)
        yield


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar over images; what it gives is told how many are done, and of how many."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
