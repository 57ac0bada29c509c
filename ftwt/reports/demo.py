"""The whole method on embedded images: dense training, oracle, gates, one test, a report."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ftwt import data
from ftwt.gated.model import Gated
from ftwt.io.files import write_atomically
from ftwt.reports import analysis
from ftwt.training.evaluation import evaluate
from ftwt.training.folders import check_free
from ftwt.training.recipes import Choices, Recipe, recipe
from ftwt.training.records import versions
from ftwt.training.runs import Callbacks, train_run

RECIPE = "shapes-resnet8"
MASSES = (1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7)
_EXAMPLES = 6
_INTRO = """A convolutional network computes every filter of every layer for every image. Here \
each layer got a small gate that looks at the layer's input and decides which filters this image \
needs; the others are left out.

The images are ten kinds of shapes that ftwt draws by itself. A small ResNet was trained on them, \
then gates were trained with the method of "Fire Together Wire Together" (CVPR 2022): the gates \
learn from the network's own heatmaps which filters fire together."""


@dataclass(frozen=True)
class Show:
    """How the demo tells what it is doing: a line, an oracle curve, and a bar for a training."""

    line: Callable[[str], None]
    curve: Callable[[analysis.Curve], None]
    training: Callable[[str, Recipe], Callbacks]


def run(
    out: Path,
    show: Show,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Train, gate and test a small ResNet on `shapes`, and write the report into `out`.

    Args:
        out: a new folder; gets `dense/` and `gated/` (runs), plots, `index.html`, `demo.json`.
        show: where progress goes.
        seed: of images, weights and order.
        epochs: epochs of each training, instead of the recipe's.
        limit: train on that many images only.

    Returns:
        Accuracy and reductions as fractions, MACs, and seconds of training.
    """
    analysis.drawing.require()
    check_free(out)
    show.line("drawing the images")
    dataset = data.load("shapes", seed=seed, limit=limit)
    assert isinstance(dataset.test, data.Images)
    choices = Choices(epochs=epochs, seed=seed)
    show.line(f"training a dense ResNet-8 on {len(dataset.train):,} images")
    dense_recipe = recipe(RECIPE, choices, dense=True)
    dense, dense_record = train_run(
        dense_recipe,
        dataset,
        out / "dense",
        name=RECIPE,
        callbacks=show.training("dense", dense_recipe),
    )
    _, held = data.holdout(dataset.train)
    validation = data.serve(held, 500, mean=dataset.mean, std=dataset.std)
    show.line("asking an oracle what perfect gates would save, without training")
    side = dataset.image_size
    curve = analysis.oracle_curve(dense, validation, MASSES, example=torch.zeros(1, 3, side, side))
    show.curve(curve)
    show.line("training the gates with the network")
    gated_recipe = recipe(RECIPE, choices)
    gated, gated_record = train_run(
        gated_recipe,
        dataset,
        out / "gated",
        name=RECIPE,
        init=out / "dense",
        callbacks=show.training("gated", gated_recipe),
    )
    assert isinstance(gated, Gated)
    show.line("testing, once, and drawing the report")
    test = data.Batches(dataset.test, 500, mean=dataset.mean, std=dataset.std)
    seen = analysis.activity(gated, test)
    dense_seconds, gated_seconds = (3600 * one["hours"] for one in (dense_record, gated_record))
    picked = torch.arange(_EXAMPLES) * (len(dataset.test) // _EXAMPLES)
    examples = data.Batches(
        dataset.test.select(picked), _EXAMPLES, mean=dataset.mean, std=dataset.std
    )
    images = next(iter(examples))[0]
    diagnosis = analysis.dynamism(gated, test)
    findings = analysis.Findings(
        activity=seen,
        dense_accuracy=evaluate(dense, test).accuracy,
        curve=curve,
        trained=evaluate(gated, validation),
        maps=analysis.heatmaps(gated, images, seen.most_reduced()),
        map_pixels=dataset.test.pixels[picked],
        pixels=dataset.test.pixels,
        dense_seconds=dense_seconds,
        gated_seconds=gated_seconds,
        dynamism=diagnosis,
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
        "page": str(out / "index.html"),
        "seed": seed,
        "versions": versions(),
    }
    made = {
        "command": " ".join(["ftwt", *sys.argv[1:]]),
        "seed": str(seed),
        **versions(),
        "threads": str(torch.get_num_threads()),
    }
    analysis.write_report(
        out, findings, title="Filters that fire together", intro=_INTRO, made=made
    )
    write_atomically(out / "demo.json", (json.dumps(result, indent=2) + "\n").encode())
    return result
