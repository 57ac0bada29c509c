"""What a finished run is worth: accuracy and cost on the test set, once."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ftwt import data
from ftwt.data import Dataset
from ftwt.data.loaders import evaluation_batch
from ftwt.data.splits import balanced_prefix
from ftwt.gated.escalation import Escalating
from ftwt.gated.model import Gated
from ftwt.io import storage
from ftwt.io.files import write_atomically
from ftwt.macs import dense_macs
from ftwt.training.activity import Activity, activity
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import check_classes
from ftwt.training.preparation import ServedBatches
from ftwt.training.records import versions
from ftwt.training.runs import check_device


def evaluate_run(
    run: Path,
    name: str,
    *,
    size: int | None = None,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> dict[str, Any]:
    """Evaluate a saved model on a data set's test images.

    Writes `eval.json` into a run folder, unless `limit` leaves images out.

    Of a network that `ftwt slim` left, `dense_macs_before_slim` are the whole one's; reductions are
    of its own.

    `dense_accuracy` is that of the plain network that the gated training started from, None where
    the run does not hold it; `all_on_accuracy` that of the gated weights with every filter on.
    Accuracies and reductions are fractions, these of the plain network's MACs.

    Args:
        run: a run folder, or a file that `ftwt.save` wrote.
        name: the data set, as for `data.load`.
        size: side in pixels that images are brought to, as for `data.load`.
        limit: use at most so many test images, spread evenly over the classes.
        device: where to evaluate.
        workers: processes that decode images, as for `data.load`.

    Raises:
        FtwtError: no model there, or the data's classes are not the model's.
    """
    file = storage.model_file(run)
    check_device(device)
    model, card = storage.load(file, device=device)
    # The training images are only for their statistics, which a run brings with it.
    only: Literal["test"] | None = "test" if card.mean and card.std else None
    dataset = data.load(name, size=size, only=only, workers=workers)
    check_classes(f"eval: {run}", card, dataset)
    batches = _test_batches(dataset, card, limit)
    start = file.parent / "dense.safetensors"
    match model:
        case Gated():
            measured = _gated(model, card, batches, start)
        case Escalating():
            measured = _escalating(model, batches, start)
        case _:
            measured = _plain(model, batches, dataset.image_size)
    result = {
        "run": str(run),
        "data": name,
        **measured,
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }
    if run.is_dir() and limit is None:
        write_atomically(run / "eval.json", (json.dumps(result, indent=2) + "\n").encode())
    return result


def _test_batches(dataset: Dataset, card: storage.Card, limit: int | None) -> ServedBatches:
    """Test images, with the pixel statistics that the model was trained with."""
    images = dataset.test
    if limit is not None:
        # Files lie class by class: the first so many would be of one class.
        images = images.select(balanced_prefix(images.labels, min(limit, len(images))))
    mean, std = card.mean or dataset.mean, card.std or dataset.std
    return data.serve(images, evaluation_batch(images), mean=mean, std=std)  # type: ignore[arg-type]


def _plain(model: nn.Module, batches: ServedBatches, side: int) -> dict[str, Any]:
    device = next(model.parameters()).device
    macs = dense_macs(model, torch.zeros(1, 3, side, side, device=device))
    seen = evaluate(model, batches, dense_macs=macs)
    return {
        "images": seen.images,
        "accuracy": seen.accuracy,
        "dense_accuracy": seen.accuracy,
        "all_on_accuracy": seen.accuracy,
        "dense_macs": macs,
        "macs": seen.macs,
        "paper_macs": seen.paper_macs,
        "reduction_exact": seen.reduction_exact,
        "reduction_paper": seen.reduction_paper,
        "layers": [],
    }


def _gated(model: Gated, card: storage.Card, batches: ServedBatches, start: Path) -> dict[str, Any]:
    seen = activity(model, batches)
    return {
        "images": seen.images,
        "accuracy": seen.accuracy,
        "dense_accuracy": _accuracy_of(start, model, batches),
        "all_on_accuracy": evaluate(_AllOn(model), batches).accuracy,
        "dense_macs": seen.dense_macs,
        "dense_macs_before_slim": card.extra.get("dense_macs_before_slim"),
        "macs": seen.mean_macs,
        "paper_macs": seen.mean_paper_macs,
        "reduction_exact": seen.reduction_exact,
        "reduction_paper": seen.reduction_paper,
        "layers": layer_rows(seen),
    }


def _escalating(model: Escalating, batches: ServedBatches, start: Path) -> dict[str, Any]:
    """`all_on_accuracy` is that of the last setting by itself."""
    seen = evaluate(model, batches)
    return {
        "images": seen.images,
        "accuracy": seen.accuracy,
        "dense_accuracy": _accuracy_of(start, model, batches),
        "all_on_accuracy": evaluate(model.gated[-1], batches).accuracy,
        "dense_macs": seen.dense_macs,
        "macs": seen.macs,
        "paper_macs": seen.paper_macs,
        "reduction_exact": seen.reduction_exact,
        "reduction_paper": seen.reduction_paper,
        "layers": [],
    }


def _accuracy_of(start: Path, model: nn.Module, batches: ServedBatches) -> float | None:
    """That of the plain network that a training started from, if the run holds it."""
    device = next(model.parameters()).device
    return (
        evaluate(storage.load(start, device=device)[0], batches).accuracy
        if start.is_file()
        else None
    )


def layer_rows(seen: Activity) -> list[dict[str, Any]]:
    """Cost and activity of each layer; what concerns a gate is None where there is none."""
    sites = {site.name: site for site in seen.sites}
    rows = []
    for layer in seen.layers:
        site = sites.get(layer.name)
        rows.append(
            {
                "name": layer.name,
                "dense_macs": layer.dense_macs,
                "macs": layer.mean_macs,
                "gate_macs": layer.mean_gate_macs,
                "filters": site.filters if site else None,
                "mean_share": site.mean_share if site else None,
                "always": site.core_filters if site else None,
                "sometimes": site.sometimes_filters if site else None,
                "never": site.never_filters if site else None,
            }
        )
    return rows


class _AllOn(nn.Module):
    """A gated network with every filter running."""

    def __init__(self, model: Gated) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model.forward_with_masks(lambda site, features: None, images)
