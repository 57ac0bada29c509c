"""An arm's record: what it is worth on the test images, once, and what that depends on."""

from pathlib import Path
from typing import Any

from torch import nn

from benchmarks import pages
from benchmarks.pareto.study import Study
from ftwt import data
from ftwt.gated.model import Gated
from ftwt.reports.timing.machine import machine
from ftwt.training.evaluation import evaluate

RECORDS = pages.RECORDS / "pareto"


def name_of(study: Study, arm: str, reduction: float) -> str:
    """The record's name; the dense control is one for all reductions."""
    run = arm if arm == "dense" else f"{arm}-{100 * reduction:g}"
    return study.folder(run).name


def record(
    study: Study, arm: str, reduction: float, model: nn.Module, about: Any
) -> dict[str, Any]:
    """Test a finished arm.

    MACs are exact, of everything that ran, on average over the test images; the reduction is of
    the whole network's.
    """
    dataset = study.dataset
    test = data.Batches(dataset.test, 500, mean=dataset.mean, std=dataset.std)
    seen = evaluate(model, test, dense_macs=study.dense_macs)
    return {
        "network": study.network,
        "arm": arm,
        "seed": study.seed,
        "epochs": study.epochs,
        "asked": None if arm == "dense" else reduction,
        "accuracy": seen.accuracy,
        "images": seen.images,
        "macs": seen.macs,
        "dense_macs": study.dense_macs,
        "reduction_exact": 1 - seen.macs / study.dense_macs,
        "paper_macs": seen.paper_macs if isinstance(model, Gated) else None,
        "ms": None,
        "start": str(study.start),
        "made": brief(about),
        "machine": machine(),
    }


def brief(about: Any) -> Any:
    """A run's description without the masks of narrow networks, which lie in the saved model.

    In their place: how many filters each site keeps. Each site's part names the masks of all, so
    they would make records of a megabyte.
    """
    match about:
        case {"type": "Narrowed", "parts": dict(parts)}:
            return {
                "type": "Narrowed",
                "keeps": {on: len(one["outputs"]) for on, one in parts.items()},
            }
        case dict():
            return {key: brief(one) for key, one in about.items()}
        case list():
            return [brief(one) for one in about]
        case _:
            return about


def read(folder: Path = RECORDS) -> list[dict[str, Any]]:
    """All records, by name."""
    return list(pages.read_all(folder).values())
