"""Progress of a training, by rich, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .output import errors, percent

if TYPE_CHECKING:
    from ftwt.training.loop import Epoch
    from ftwt.training.runs import Watch


@contextmanager
def watching(label: str, epochs: int) -> Iterator["Watch"]:
    """Show a bar over all epochs' steps, and a line at the end of each epoch."""
    from ftwt.training.runs import Watch

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Without a terminal a bar would only leave empty lines; the epochs' lines stay.
    quiet = not errors.is_terminal
    with Progress(*columns, console=errors, transient=True, disable=quiet) as progress:
        task = progress.add_task(label, total=None)
        done = 0

        def step(_: int, of: int) -> None:
            progress.update(task, total=epochs * of)
            progress.advance(task)

        def epoch(row: "Epoch") -> None:
            nonlocal done
            done += 1
            progress.console.print(describe(row, epochs), highlight=False)

        yield Watch(step=step, epoch=epoch)


def describe(row: "Epoch", epochs: int) -> str:
    """One line on one epoch."""
    losses = ", ".join(f"{name} {value:.3f}" for name, value in row.losses.items())
    parts = [
        f"epoch {row.epoch + 1}/{epochs} ({row.phase}): {losses}",
        f"train {percent(row.train_accuracy)}",
        f"validation {percent(row.validation.accuracy)}",
    ]
    if row.mask_accuracy is not None:
        parts.append(f"masks {percent(row.mask_accuracy)}")
    if row.validation.macs < row.validation.dense_macs:
        parts.append(f"MAC reduction {percent(row.validation.reduction_exact)} exact")
    parts.append(f"{row.images_per_second:.0f} images/s")
    return ", ".join(parts)
