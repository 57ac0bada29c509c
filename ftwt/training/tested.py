"""What a finished run is worth: accuracy and cost on the test set, once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ftwt import data
from ftwt.data import Loaders
from ftwt.data.batches import evaluation_batches
from ftwt.gated.attach import attach
from ftwt.gated.escalation import Escalating
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gated.within import held_in, with_part
from ftwt.gates import Fixed
from ftwt.io import specs, storage
from ftwt.io.files import write_json
from ftwt.io.user_code import is_file
from ftwt.macs import dense_macs
from ftwt.training.activity import Activity, activity
from ftwt.training.evaluation import Evaluation, evaluate
from ftwt.training.inspection import Loader, as_trained, check_classes
from ftwt.training.preparation import example_for, inputs_of
from ftwt.training.records import versions
from ftwt.training.runs import check_device
from ftwt.training.tasks import LABELLED, Task
from ftwt.training.tasks.batches import moved

_Metrics = Mapping[str, float]
# Gates that cost nothing and keep every filter.
_EVERY = Pruning(Fixed({}))


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
    `metrics`, `dense_metrics` and `all_on_metrics` are the same by name, as the task has them that
    the run was trained for; `score` names the one that says what is better.
    Accuracies and reductions are fractions, these of the plain network's MACs.

    Args:
        run: a run folder, or a file that `ftwt.save` wrote.
        name: the data set, as for `data.load`.
        size: side in pixels that images are brought to, as for `data.load`.
        limit: use at most so many test images, spread evenly over the classes.
        device: where to evaluate.
        workers: processes that decode images, as for `data.load`.

    Raises:
        FtwtError: no model there, or the data's classes are not the model's; or `limit` or `size`
            of loaders of one's own.
    """
    # First: a file of one's own may make the network too.
    own = data.load_any(name, size=size, limit=limit, workers=workers) if is_file(name) else None
    file = storage.model_file(run)
    check_device(device)
    model, card = storage.load(file, device=device)
    task = task_of(card)
    # The training images are only for their statistics, which a run brings with it.
    only: Literal["test"] | None = "test" if card.mean and card.std else None
    dataset = own or data.load(name, size=size, only=only, workers=workers)
    if isinstance(dataset, Loaders):
        check_classes(f"eval: {run}", card, dataset)
        batches: Loader = dataset.test
    else:
        dataset = as_trained(f"eval: {run}", card, dataset)
        batches = evaluation_batches(dataset, dataset.test, limit=limit)
    start = file.parent / "dense.safetensors"
    tested = _Tested(batches, task, start)
    if isinstance(model, Escalating):
        measured = _escalating(model, tested)
    elif held_in(model) is not None:
        measured = _gated(model, card, tested)
    else:
        measured = _plain(model, tested, card.extra.get("inside", ""))
    result = {
        "run": str(run),
        "data": name,
        "score": task.score,
        **measured,
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }
    if run.is_dir() and limit is None:
        write_json(run / "eval.json", result)
    return result


def task_of(card: storage.Card) -> Task:
    """What a saved network is for: what its training said, else one class for each image.

    Raises:
        FtwtError: its task is not registered in this process.
    """
    said = card.extra.get("task")
    found: Task = LABELLED if said is None else specs.from_json(said)
    return found


@dataclass(frozen=True)
class _Tested:
    """Test images, what is asked of them, and where the dense start lies, if it does."""

    batches: Loader
    task: Task
    start: Path

    def metrics(self, model: nn.Module) -> _Metrics:
        """A network's metrics."""
        return evaluate(model, self.batches, task=self.task).metrics

    def of_start(self, model: nn.Module) -> _Metrics | None:
        """Those of the plain network that a training started from, if the run holds it."""
        device = next(model.parameters()).device
        if not self.start.is_file():
            return None
        return self.metrics(storage.load(self.start, device=device)[0])


def _plain(model: nn.Module, tested: _Tested, inside: str) -> dict[str, Any]:
    inputs = inputs_of(tested.batches, tested.task, "eval", inside=inside)
    inputs = moved(inputs, next(model.parameters()).device)
    macs = None
    if inside:
        # Counted at the sizes at which the whole network runs it.
        example = example_for(model, inside, inputs, tested.task)
        model = with_part(model, inside, lambda part: attach(part, _EVERY, example=example))
    else:
        macs = dense_macs(model, torch.zeros_like(inputs[:1]))
    seen = evaluate(model, tested.batches, task=tested.task, dense_macs=macs)
    # In the paper's convention a network with gates does without what has none.
    seen = seen._replace(paper_macs=seen.macs)
    return _measured(seen, (seen.macs, seen.macs), seen.metrics, seen.metrics)


def _gated(model: nn.Module, card: storage.Card, tested: _Tested) -> dict[str, Any]:
    seen = activity(model, tested.batches, task=tested.task)
    every, macs = tested.metrics(_all_on(model)), (seen.mean_macs, seen.mean_paper_macs)
    before = card.extra.get("dense_macs_before_slim")
    found = _measured(seen, macs, tested.of_start(model), every)
    return {**found, "dense_macs_before_slim": before, "layers": layer_rows(seen)}


def _escalating(model: Escalating, tested: _Tested) -> dict[str, Any]:
    """With every filter on is the last setting by itself."""
    seen = evaluate(model, tested.batches, task=tested.task)
    every, macs = tested.metrics(model.gated[-1]), (seen.macs, seen.paper_macs)
    return _measured(seen, macs, tested.of_start(model), every)


def _measured(
    seen: Evaluation | Activity, macs: tuple[float, float], dense: _Metrics | None, every: _Metrics
) -> dict[str, Any]:
    """The network's metrics and costs, beside the dense start's and those with every filter on."""
    return {
        "images": seen.images,
        "accuracy": seen.metrics.get("accuracy"),
        "dense_accuracy": None if dense is None else dense.get("accuracy"),
        "all_on_accuracy": every.get("accuracy"),
        "metrics": dict(seen.metrics),
        "dense_metrics": None if dense is None else dict(dense),
        "all_on_metrics": dict(every),
        "dense_macs": seen.dense_macs,
        "macs": macs[0],
        "paper_macs": macs[1],
        "reduction_exact": seen.reduction_exact,
        "reduction_paper": seen.reduction_paper,
        "layers": [],
    }


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


def _all_on(model: nn.Module) -> nn.Module:
    """A network with every filter running."""
    held = held_in(model)
    assert held is not None
    inside, gated = held
    return with_part(model, inside, lambda part: _AllOn(gated))


class _AllOn(nn.Module):
    """A gated network with every filter running."""

    def __init__(self, model: Gated) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        inputs = self.model.bind(args, kwargs)
        return self.model.forward_with_masks(lambda site, features: None, *inputs)
