"""The diagnosis of a saved model on a data set's test images."""

from pathlib import Path

import torch

from ftwt import data
from ftwt.data.batches import evaluation_batches
from ftwt.io import storage
from ftwt.reports.analysis.diagnosis import Dynamism
from ftwt.reports.analysis.dynamism import dynamism
from ftwt.training.inspection import as_trained


def diagnose_run(
    run: Path,
    name: str,
    *,
    size: int | None = None,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> Dynamism:
    """Tell whether a run's decisions depend on the image: see `dynamism`.

    Args:
        run: a run folder, or a file that `ftwt.save` wrote.
        name: the data set, as for `data.load`.
        size: side in pixels that images are brought to, as for `data.load`.
        limit: use at most so many test images, spread evenly over the classes.
        device: where to run.
        workers: processes that decode images, as for `data.load`.

    Raises:
        FtwtError: no gated or escalating network there, or the data's classes are not the model's.
    """
    model, card = storage.load(run, device=device)
    dataset = data.load(
        name, size=size, only="test" if card.mean and card.std else None, workers=workers
    )
    dataset = as_trained(f"eval: {run}", card, dataset)
    return dynamism(model, evaluation_batches(dataset, dataset.test, limit=limit))
