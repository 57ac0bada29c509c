"""A training's numbers as TensorBoard events."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftwt.training.loop import Epoch
    from ftwt.training.runs import Callbacks


@contextmanager
def writing(folder: Path, callbacks: "Callbacks") -> Iterator["Callbacks"]:
    """Write each epoch's numbers into `folder`, beside what `callbacks` shows.

    Raises:
        FtwtError: TensorBoard is not installed.
    """
    from ftwt.errors import FtwtError
    from ftwt.training.runs import Callbacks

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise FtwtError(
            "train: --tensorboard needs the package tensorboard; run `pip install "
            "ftwt[tensorboard]`, or leave it out: metrics.jsonl has the same numbers"
        ) from None
    writer: Any = None

    def epoch(row: "Epoch") -> None:
        nonlocal writer
        if writer is None:
            # Epochs that a resumed run trains again replace those written before.
            writer = SummaryWriter(str(folder), purge_step=row.epoch + 1)
        for name, value in numbers(row).items():
            writer.add_scalar(name, value, row.epoch + 1)
        writer.flush()
        callbacks.epoch(row)

    try:
        yield Callbacks(step=callbacks.step, epoch=epoch, note=callbacks.note)
    finally:
        if writer is not None:
            writer.close()


def numbers(row: "Epoch") -> dict[str, float]:
    """What an epoch is drawn by."""
    found = {f"loss/{name}": value for name, value in row.losses.items()}
    found |= {f"learning rate/{name}": value for name, value in row.learning_rates.items()}
    if row.train_accuracy is not None:
        found["accuracy/train"] = row.train_accuracy
    found |= {f"{name}/validation": value for name, value in row.validation.metrics.items()}
    found["MAC reduction/exact"] = row.validation.reduction_exact
    found["MAC reduction/paper"] = row.validation.reduction_paper
    found["images per second"] = row.images_per_second
    if row.mask_accuracy is not None:
        found["accuracy/masks"] = row.mask_accuracy
    return found
