"""What a finished run is worth: accuracy and cost on the test set, once."""

import json
from pathlib import Path
from typing import Any

import torch

from ftwt import data, networks, storage
from ftwt.data import Batches, Dataset
from ftwt.errors import FtwtError
from ftwt.files import write_atomically
from ftwt.macs import Plan, dense_macs
from ftwt.model import Gated
from ftwt.training.evaluation import evaluate
from ftwt.training.runs import versions

_BATCH = 500


def evaluate_run(run: Path, name: str, *, limit: int | None = None) -> dict[str, Any]:
    """Evaluate a saved model on a data set's test images; writes `eval.json` beside it.

    `dense_accuracy` is that of the plain network that the gated training started from, None where
    the run does not hold it; `all_on_accuracy` that of the gated weights with every filter on.
    Reductions are fractions of the plain network's MACs.

    Raises:
        FtwtError: no model there, or the data's classes are not the model's.
    """
    file = storage.model_file(run)
    model, card = storage.load(file)
    dataset = data.load(name)
    if len(dataset.classes) != card.num_classes:
        raise FtwtError(
            f"eval: {run} knows {card.num_classes} classes, {name} has {len(dataset.classes)}; "
            "give the data that it was trained on"
        )
    batches = batches_of(dataset, card, limit)
    start = file.parent / "dense.safetensors"
    measured = evaluate(model, batches, dense_macs=_dense_macs(model, dataset))
    result: dict[str, Any] = {
        "run": str(run),
        "data": name,
        "images": measured.images,
        "accuracy": measured.accuracy,
        "dense_accuracy": None,
        "all_on_accuracy": measured.accuracy,
        "dense_macs": measured.dense_macs,
        "macs": measured.macs,
        "paper_macs": measured.paper_macs,
        "reduction_exact": measured.reduction_exact,
        "reduction_paper": measured.reduction_paper,
        "layers": [],
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }
    if isinstance(model, Gated):
        result["all_on_accuracy"] = evaluate(_all_on(model, card), batches).accuracy
        if start.is_file():
            result["dense_accuracy"] = evaluate(storage.load(start)[0], batches).accuracy
        result["layers"] = layer_activity(model, batches)
    else:
        result["dense_accuracy"] = measured.accuracy
    if run.is_dir():
        write_atomically(run / "eval.json", (json.dumps(result, indent=2) + "\n").encode())
    return result


def batches_of(dataset: Dataset, card: storage.Card, limit: int | None = None) -> Batches:
    """Test batches with the pixel statistics that a model was trained with."""
    images = dataset.test
    if limit is not None:
        images = images.select(torch.arange(min(limit, len(images))))
    mean, std = card.mean or dataset.mean, card.std or dataset.std
    return Batches(images, _BATCH, mean=mean, std=std)  # type: ignore[arg-type]


def layer_activity(model: Gated, batches: Batches) -> list[dict[str, Any]]:
    """Mean share of filters that run and mean exact MACs of each layer over a data set."""
    plan: Plan = model.anatomy.plan
    sums: dict[str, float] = {}
    active: dict[str, float] = {}
    images = 0
    with torch.inference_mode():
        for inputs, _ in batches:
            masks = model.trace(inputs, targets=False).masks
            images += len(inputs)
            for name, macs in plan.exact(masks).items():
                sums[name] = sums.get(name, 0.0) + macs.sum().item()
            for name, mask in masks.items():
                active[name] = active.get(name, 0.0) + mask.float().mean(1).sum().item()
    return [
        {
            "name": layer.name,
            "dense_macs": layer.dense_macs,
            "macs": sums[layer.name] / images,
            "active": active[layer.name] / images if layer.name in active else None,
        }
        for layer in plan.layers
    ]


def _all_on(model: Gated, card: storage.Card) -> torch.nn.Module:
    """The same weights with every filter on."""
    assert card.network is not None
    plain = networks.build(card.network, num_classes=card.num_classes)
    weights = {
        name: value for name, value in model.state_dict().items() if not name.startswith("gates.")
    }
    plain.load_state_dict(weights)
    return plain.eval()


def _dense_macs(model: torch.nn.Module, dataset: Dataset) -> int:
    if isinstance(model, Gated):
        return model.dense_macs
    return dense_macs(model, torch.zeros(1, 3, dataset.image_size, dataset.image_size))
