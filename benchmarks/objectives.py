"""Compare objectives on ResNet-20: the paper's, with distillation, with a teacher's targets, both.

    python -m benchmarks.objectives run --data imagefolder:DIR --init RUN --out runs/objectives
    python -m benchmarks.objectives write

`run` trains every setting from the same dense weights, for the same epochs on the same images, and
tests each network once; it may be stopped and started again at any time. `write` makes
docs/objectives.md from the committed records.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import pages
from benchmarks.pages import read_object
from ftwt import analysis, data
from ftwt.gated.model import Gated
from ftwt.io import storage
from ftwt.tables import of_text
from ftwt.training import Overrides, evaluate, recipe, runs
from ftwt.training.records import versions

RECORD, PAGE = pages.RECORDS / "objectives.json", pages.DOCS / "objectives.md"
RECIPE = "cifar10-resnet20-short"
# The fixed subset: the same images of each class for all runs, a tenth of them held out.
IMAGES, EPOCHS = 5000, 4
MASSES = (0.85, 0.75)
SEEDS = (0, 1, 2)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "plain": {},
    "+ distillation": {"distill": True},
    "+ teacher's targets": {"target_source": "teacher"},
    "+ both": {"distill": True, "target_source": "teacher"},
}


@dataclass(frozen=True)
class Setting:
    """One run of the comparison."""

    objective: str
    mass: float
    seed: int

    @property
    def folder(self) -> str:
        """The run's folder."""
        name = self.objective.replace("+ ", "with-").replace("'s ", "-")
        return f"{name}-mass{self.mass}-seed{self.seed}"


def settings() -> Iterator[Setting]:
    """All runs, seed by seed, so that a comparison that was stopped is whole for some seeds."""
    for seed in SEEDS:
        for mass in MASSES:
            for objective in OBJECTIVES:
                yield Setting(objective, mass, seed)


def run(source: str, init: Path, out: Path) -> None:
    """Run what is missing, and record every finished run."""
    dataset = data.load(source, limit=IMAGES, seed=0)
    test = data.Batches(dataset.test, 500, mean=dataset.mean, std=dataset.std)
    file = out / "objectives.json"
    record = read_object(file) if file.is_file() else {"runs": []}
    if "dense" not in record:
        dense, _ = storage.load(init)
        record["dense"] = {
            "accuracy": evaluate(dense, test).accuracy,
            "images": len(dataset.test),
            "train_images": len(data.holdout(dataset.train)[0]),
            "epochs": EPOCHS,
            "recipe": RECIPE,
            "versions": versions(),
        }
    done = {(one["objective"], one["mass"], one["seed"]) for one in record["runs"]}
    for setting in settings():
        if (setting.objective, setting.mass, setting.seed) in done:
            continue
        row = _one(setting, dataset, test, init, out / setting.folder)
        record["runs"].append(row)
        pages.write(file, record)
        print(json.dumps(row), flush=True)


def _one(
    setting: Setting,
    dataset: data.Dataset,
    test: data.Batches,
    init: Path,
    folder: Path,
) -> dict[str, Any]:
    overrides = Overrides(
        mass=setting.mass, epochs=EPOCHS, seed=setting.seed, **OBJECTIVES[setting.objective]
    )
    begun = time.monotonic()
    if (folder / "run.json").is_file() and _finished(folder):
        model, _ = storage.load(folder)
    else:
        resume = (folder / "run.json").is_file()
        model, _ = runs.train_run(
            recipe(RECIPE, overrides), dataset, folder, name=RECIPE, init=init, resume=resume
        )
    assert isinstance(model, Gated)
    seen = analysis.activity(model, test)
    filters = sum(site.filters for site in seen.sites)
    sometimes = sum(site.sometimes_filters for site in seen.sites)
    return {
        **asdict(setting),
        "accuracy": seen.accuracy,
        "reduction_exact": seen.reduction_exact,
        "reduction_paper": seen.reduction_paper,
        "dynamic_filters": sometimes / filters,
        "seconds": round(time.monotonic() - begun),
    }


def _finished(folder: Path) -> bool:
    return bool(read_object(folder / "run.json").get("status") == "finished")


def table(record: dict[str, Any]) -> str:
    """Mean and standard deviation over seeds of each setting."""
    dense = record["dense"]["accuracy"]
    heads = (
        "mass", "objective", "seeds", "accuracy, %", "drop, points", "MAC reduction exact, %",
        "in the paper's convention, %", "filters that depend on the image, %",
    )  # fmt: skip
    lines = []
    for mass in MASSES:
        for objective in OBJECTIVES:
            rows = [
                one
                for one in record["runs"]
                if one["mass"] == mass and one["objective"] == objective
            ]
            if not rows:
                continue
            cells = [f"{mass}", objective, f"{len(rows)}", _spread(rows, "accuracy", 2)]
            mean = statistics.mean(one["accuracy"] for one in rows)
            cells += [f"{100 * (dense - mean):.2f}", _spread(rows, "reduction_exact", 1)]
            cells += [_spread(rows, "reduction_paper", 1), _spread(rows, "dynamic_filters", 0)]
            lines.append(cells)
    return of_text(heads, lines).markdown()


def _missing(record: dict[str, Any]) -> list[str]:
    """A sentence on runs that have not been made, if any."""
    wanted, made = len(list(settings())), len(record["runs"])
    return [f"**{made} of {wanted} runs are done; the others are missing.**"] * (made < wanted)


def _spread(rows: list[dict[str, Any]], name: str, digits: int) -> str:
    values = [100 * one[name] for one in rows]
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def page(record: dict[str, Any]) -> str:
    """The whole page."""
    dense = record["dense"]
    versions = ", ".join(f"{name} {value}" for name, value in dense["versions"].items())
    return "\n\n".join([
        "# Objectives compared: ResNet-20 on CIFAR-10 (JPEG)",
        "Made by `python -m benchmarks.objectives write` from "
        "`benchmarks/records/objectives.json`; do not edit.",
        f"Every run starts from the same dense weights ({100 * dense['accuracy']:.2f} % on the "
        f"{dense['images']:,} test images) and trains {dense['epochs']} epochs of the recipe "
        f"`{dense['recipe']}` on the same {dense['train_images']:,} training images (the first of "
        "each class in a fixed random order, whose pixel statistics serve here; a tenth of them "
        "was held out to choose the epoch), gates "
        "frozen after half of the epochs. That is a small part of the data and a short "
        "training: the figures compare with each other, and are no results of the method at its "
        "best. Mean ± standard deviation over seeds, which change order, augmentation and the "
        "gates' first weights.",
        "*plain* is the paper's objective: cross entropy and the gates' cross entropy with targets "
        "from the masked features. *distillation* adds `losses.Distillation` (temperature 4, "
        "weight 0.5) from the dense start. *teacher's targets* takes targets from the dense "
        "start's features (`target_source=\"teacher\"`).",
        *_missing(record),
        table(record),
        f"Versions: {versions}.",
        "```\npython -m benchmarks.objectives run --data imagefolder:data/cifar10-jpeg "
        "--init runs/resnet20-dense --out runs/objectives\n```",
    ]) + "\n"  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train and test what is missing")
    runner.add_argument("--data", required=True, help="as for `ftwt train`")
    runner.add_argument("--init", type=Path, required=True, help="the dense network's run folder")
    runner.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    runner.add_argument("--threads", type=int, default=os.cpu_count())
    runner.add_argument("--label", help="anything, to find the process by")
    commands.add_parser("write", help="write docs/objectives.md")
    options = parser.parse_args()
    if options.command == "run":
        torch.set_num_threads(options.threads)
        run(options.data, options.init, options.out)
    else:
        PAGE.write_text(page(read_object(RECORD)))


if __name__ == "__main__":
    main()
