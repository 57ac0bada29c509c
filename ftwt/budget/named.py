"""Networks and runs as the command line names them, with images to measure them on."""

from pathlib import Path
from typing import NamedTuple

import torch

from ftwt import networks, storage
from ftwt.attach import attach
from ftwt.data import Batches, Dataset, holdout
from ftwt.data.splits import balanced_prefix
from ftwt.errors import FtwtError
from ftwt.model import Gated, Pruning

_BATCH = 500


class Named(NamedTuple):
    """A gated network and the pixel statistics that it was trained with."""

    model: Gated
    mean: tuple[float, ...]
    std: tuple[float, ...]


def gated(name: str, dataset: Dataset, *, init: Path | None = None) -> Named:
    """A network by name, with weights from `init`, or the run or saved model at a path.

    A plain network gets the paper's gates, untrained.

    Raises:
        FtwtError: no such network or file, or the classes are not the data's.
    """
    path = Path(name)
    example = torch.zeros(1, 3, dataset.image_size, dataset.image_size)
    if path.exists():
        if init is not None:
            raise FtwtError(f"{name} is a saved model, which has its weights; leave out --init")
        model, card = storage.load(path)
        check_classes(name, card, dataset)
        found = model if isinstance(model, Gated) else attach(model, Pruning(), example=example)
        return Named(found.eval(), card.mean or dataset.mean, card.std or dataset.std)
    network = networks.build(name, num_classes=len(dataset.classes))
    if init is not None:
        weights = storage.read(storage.model_file(init))[0]
        plain = {key: one for key, one in weights.items() if not key.startswith("gates.")}
        storage.load_weights(network, plain, source=str(init))
    return Named(attach(network, Pruning(), example=example).eval(), dataset.mean, dataset.std)


def check_classes(name: str, card: storage.Card, dataset: Dataset) -> None:
    """Raise FtwtError unless the data has the classes that the model knows."""
    if len(dataset.classes) != card.num_classes:
        raise FtwtError(
            f"{name} knows {card.num_classes} classes, {dataset.name} has "
            f"{len(dataset.classes)}; give the data that it was trained on"
        )


def validation(
    dataset: Dataset, mean: tuple[float, ...], std: tuple[float, ...], *, limit: int | None = None
) -> Batches:
    """The validation split, of which a training sees nothing, or some images of each class."""
    _, held = holdout(dataset.train)
    if limit is not None and limit < len(held):
        held = held.select(balanced_prefix(held.labels, limit))
    return Batches(held, _BATCH, mean=mean, std=std)  # type: ignore[arg-type]
