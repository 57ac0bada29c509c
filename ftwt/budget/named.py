"""Networks and runs as the command line names them, with images to measure them on."""

from pathlib import Path
from typing import NamedTuple

import torch

from ftwt.backbones import networks
from ftwt.data import Dataset, Loaders
from ftwt.data.batches import evaluation_batches
from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.io import storage
from ftwt.training.initial import starting_weights
from ftwt.training.inspection import Loader, as_trained
from ftwt.training.preparation import training_split


class NamedModel(NamedTuple):
    """A gated network, and the data with the pixel statistics that it was trained with."""

    model: Gated
    dataset: Dataset


def load_gated(
    name: str,
    dataset: Dataset,
    *,
    init: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> NamedModel:
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
        model, card = storage.load(path, device=device)
        dataset = as_trained(name, card, dataset)
        found = model if isinstance(model, Gated) else attach(model, Pruning(), example=example)
        return NamedModel(found.to(device).eval(), dataset)
    network = networks.build(name, num_classes=len(dataset.classes))
    if init is not None:
        weights = starting_weights(init, name)
        plain = {key: one for key, one in weights.items() if not key.startswith("gates.")}
        storage.load_weights(network, plain, source=str(init))
    found = attach(network, Pruning(), example=example).to(device)
    return NamedModel(found.eval(), dataset)


def validation(dataset: Dataset | Loaders, *, limit: int | None = None) -> Loader:
    """The validation split, of which a training sees nothing, or some images of each class."""
    if isinstance(dataset, Loaders):
        return dataset.validation
    _, held = training_split(dataset)
    return evaluation_batches(dataset, held, limit=limit)
