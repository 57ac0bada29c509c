"""Training, testing, timing, and a report of it all."""

import itertools
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ftwt import data
from ftwt.gated.model import Gated
from ftwt.io.files import write_json
from ftwt.reports import analysis
from ftwt.reports.demo.shared import REDUCTION, budget_points, narrow_recipe, train_shared
from ftwt.reports.demo.story import INTRO, NEXT, Story, closing, opening, story_highlights
from ftwt.reports.demo.times import times
from ftwt.training.evaluation import evaluate
from ftwt.training.folders import check_free
from ftwt.training.recipes import Overrides, Recipe, recipe
from ftwt.training.records import versions
from ftwt.training.runs import Callbacks, train_run

RECIPE = "shapes-resnet8"
MASSES = (1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7)
# Epochs of the dense, the gated and the narrow network: minutes in all on one core.
_EPOCHS = (12, 5, 3)
_STEPS = 8
_EXAMPLES, _SIDE_BY_SIDE, _TIMED = 6, 3, 32
# Sites whose masks are shown: one of each width.
_SITES = ("layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1")


@dataclass(frozen=True)
class Show:
    """How the demo tells what it is doing: a line, an oracle curve, and a bar for a training."""

    line: Callable[[str], None]
    curve: Callable[[analysis.Curve], None]
    training: Callable[[str, Recipe], Callbacks]


def run_demo(
    out: Path,
    show: Show,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Train, gate and test a small ResNet on `shapes`, and write the report into `out`.

    Args:
        out: a new folder; gets `dense/`, `gated/` and `shared/` (runs), plots, `index.html`,
            `demo.json`.
        show: where progress goes.
        seed: of images, weights and order.
        epochs: epochs of each training, instead of the recipe's.
        limit: train on that many images only, and test on as many.

    Returns:
        Accuracy and reductions as fractions, MACs, and seconds of training.
    """
    analysis.drawing.require()
    check_free(out)
    steps = itertools.count(1)

    def begin(doing: str) -> None:
        show.line(f"{next(steps)}/{_STEPS} {doing}")

    begin("drawing the images")
    dataset = data.load("shapes", seed=seed, limit=limit)
    tested = dataset.test
    assert isinstance(tested, data.Images)
    if limit is not None:
        tested = tested.select(torch.arange(limit))
    epochs_of_each = _EPOCHS if epochs is None else (epochs,) * 3
    dense_recipe, gated_recipe = (
        recipe(RECIPE, Overrides(epochs=count, seed=seed, normalize="layer"), dense=dense)
        for count, dense in zip(epochs_of_each, (True, False), strict=False)
    )

    def train(label: str, chosen: Recipe, init: Path | None = None) -> tuple[Any, float]:
        model, record = train_run(
            chosen,
            dataset,
            out / label,
            name=RECIPE,
            init=init,
            callbacks=show.training(label, chosen),
        )
        return model, 3600 * record["hours"]

    begin(f"training a dense ResNet-8 on {len(dataset.train):,} images, which takes the longest")
    dense, dense_seconds = train("dense", dense_recipe)
    _, held = data.holdout(dataset.train)
    validation = data.Batches(held, 500, mean=dataset.mean, std=dataset.std)
    begin("asking an oracle what perfect gates would save, without training")
    side = dataset.image_size
    curve = analysis.oracle_curve(dense, validation, MASSES, example=torch.zeros(1, 3, side, side))
    show.curve(curve)
    begin("training the gates with the network")
    gated, gated_seconds = train("gated", gated_recipe, out / "dense")
    assert isinstance(gated, Gated)
    begin("training a narrow network that the dense one stands behind")
    narrow = narrow_recipe(dense_recipe, epochs_of_each[2])
    shared = train_shared(
        narrow, dataset, dense, out / "shared", validation, show.training("narrow", narrow)
    )
    begin(f"testing on {len(tested):,} images, once")
    test = data.Batches(tested, 500, mean=dataset.mean, std=dataset.std)
    few = _few(tested, dataset)
    seen = analysis.activity(gated, test)
    diagnosis = analysis.dynamism(gated, test)
    setting = shared.at(reduction=REDUCTION)
    dense_accuracy = evaluate(dense, test).accuracy
    decided, points = analysis.dynamism(setting, test), budget_points(shared, test)
    begin("timing, one image at a time")
    measured, others = times(dense, gated, setting, few.images)
    trace = gated.trace(few.images[:_SIDE_BY_SIDE], targets=False)
    story = Story(
        dense_accuracy=dense_accuracy,
        pixels=few.pixels[:_SIDE_BY_SIDE],
        masks={site: trace.masks[site] for site in _SITES},
        gates=diagnosis,
        shared=decided,
        points=points,
        times=measured,
        others=others,
    )
    begin("drawing the page")
    findings = analysis.Findings(
        activity=seen,
        dense_accuracy=dense_accuracy,
        curve=curve,
        trained=evaluate(gated, validation),
        maps=analysis.heatmaps(gated, few.images[:_EXAMPLES], seen.most_reduced()),
        map_pixels=few.pixels[:_EXAMPLES],
        pixels=tested.pixels,
        dense_seconds=dense_seconds,
        gated_seconds=gated_seconds,
    )
    result = {
        "dense_accuracy": findings.dense_accuracy,
        "accuracy": seen.accuracy,
        "reduction_exact": seen.reduction_exact,
        "reduction_paper": seen.reduction_paper,
        "dense_macs": seen.dense_macs,
        "macs": seen.mean_macs,
        "dense_seconds": dense_seconds,
        "gated_seconds": gated_seconds,
        "oracle": curve.to_json(),
        "dynamism": diagnosis.to_json(),
        "shared": {
            "dynamism": story.shared.to_json(),
            "budgets": [one._asdict() for one in story.points],
        },
        "milliseconds": [one._asdict() for one in measured],
        "next": list(NEXT),
        "page": str(out / "index.html"),
        "seed": seed,
        "versions": versions(),
    }
    made = {
        "command": shlex.join(["ftwt", *sys.argv[1:]]),
        "seed": str(seed),
        **versions(),
        "threads": str(torch.get_num_threads()),
    }
    analysis.write_report(
        out, findings,
        title="Filters that fire together", intro=INTRO, made=made,
        around=(opening(out, story), closing()), numbers=story_highlights(story),
    )  # fmt: skip
    write_json(out / "demo.json", result)
    return result


class _Few(NamedTuple):
    """Test images to look at, and as the networks take them."""

    pixels: Tensor
    images: Tensor


def _few(tested: data.Images, dataset: data.Dataset) -> _Few:
    """Some test images, spread over all of them."""
    chosen = tested.select(torch.arange(_TIMED) * (len(tested) // _TIMED))
    batches = data.Batches(chosen, _TIMED, mean=dataset.mean, std=dataset.std)
    return _Few(chosen.pixels, next(iter(batches))[0])
