"""The results page, made from committed records of finished and evaluated runs.

    python -m benchmarks.results add runs/resnet20-mass0.85    # after `ftwt train` and `ftwt eval`
    python -m benchmarks.results write                         # docs/results.md

A record holds what `run.json`, `metrics.jsonl` and `eval.json` of a run folder say: command,
recipe, seed, versions, hours, each epoch, and the test set's accuracy, MACs and layers.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.pages import read_object
from ftwt.tables import of_text

RECORDS, PAGE = pages.RECORDS / "cifar10-jpeg", pages.DOCS / "results.md"


def add(run: Path) -> Path:
    """Commit-ready record of one run."""
    record = read_object(run / "run.json")
    record["epochs_log"] = [
        json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    record["test"] = read_object(run / "eval.json")
    path = RECORDS / f"{run.name}.json"
    pages.write(path, record)
    return path


def records() -> dict[str, dict[str, Any]]:
    """All records by name."""
    return pages.read_all(RECORDS)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Gated runs beside the dense ones that they started from."""
    heads = (
        "network", "mass", "coupling", "gate's normalisation", "accuracy dense, %",
        "accuracy gated, %", "drop, points", "MAC reduction exact, %",
        "in the paper's convention, %", "filters that depend on the image, %",
        "epochs dense + gated", "hours",
    )  # fmt: skip
    rows = []
    for record in found.values():
        pruning = record["specification"]["pruning"]
        if pruning is None:
            continue
        dense = found[Path(record["init"]).name]
        test = record["test"]
        drop = dense["test"]["accuracy"] - test["accuracy"]
        rows.append((
            record["specification"]["network"].removeprefix("cifar10-"),
            str(pruning["target"]["mass"]), pruning["coupling"], pruning["gate"]["normalize"],
            f"{100 * dense['test']['accuracy']:.2f}",
            f"{100 * test['accuracy']:.2f}", f"{100 * drop:.2f}",
            f"{100 * test['reduction_exact']:.1f}", f"{100 * test['reduction_paper']:.1f}",
            f"{100 * _dynamic(test['layers']):.0f}",
            f"{dense['epochs']} + {record['epochs']}{_subset(record, dense)}",
            f"{dense['hours'] + record['hours']:.1f}",
        ))  # fmt: skip
    return of_text(heads, rows).markdown()


def _subset(record: dict[str, Any], dense: dict[str, Any]) -> str:
    """How many images a gated run trained on, where these were not all of them."""
    images = record["data"]["train_images"]
    return "" if images == dense["data"]["train_images"] else f" on {images:,} images"


def _dynamic(layers: list[dict[str, Any]]) -> float:
    """Share of gated filters that run for some test images and not for others."""
    gated = [layer for layer in layers if layer["filters"] is not None]
    sometimes = sum(int(layer["sometimes"]) for layer in gated)
    return sometimes / sum(int(layer["filters"]) for layer in gated)


def layers(record: dict[str, Any]) -> str:
    """Activity by layer of one gated run."""
    heads = (
        "layer", "dense MACs", "exact MACs run", "gate MACs", "filters", "that run, %",
        "always", "for some images", "never",
    )  # fmt: skip
    rows = []
    for layer in record["test"]["layers"]:
        cells = [layer["name"], f"{layer['dense_macs']:,}", f"{layer['macs']:,.0f}"]
        if layer["filters"] is None:
            cells += [""] * 6
        else:
            cells += [f"{layer['gate_macs']:,.0f}", str(layer["filters"])]
            cells += [f"{100 * layer['mean_share']:.1f}"]
            cells += [str(layer[kind]) for kind in ("always", "sometimes", "never")]
        rows.append(cells)
    return of_text(heads, rows).markdown()


def page(found: dict[str, dict[str, Any]]) -> str:
    """The whole results page."""
    some = next(iter(found.values()))
    versions = ", ".join(f"{name} {value}" for name, value in some["versions"].items())
    parts = [
        "# Results on CIFAR-10 (JPEG)",
        "Made by `python -m benchmarks.results write` from the records in "
        "`benchmarks/records/cifar10-jpeg/`; do not edit.",
        "CIFAR-10 (JPEG) is CIFAR-10 with its images stored as 32x32 JPEG files, which costs "
        "accuracy against the lossless images: figures compare with each other only, not with "
        "published ones. ResNets start from weights trained on lossless CIFAR-10, fine-tuned "
        "dense; MobileNetV1 is trained from scratch, in far fewer epochs than the paper's 200. "
        "Then gates by the paper's method (heatmap mass, global max pooling), gates frozen after "
        "half of the epochs, one seed. *softmax* is the paper's "
        "gate; *layer* is ours, which normalises the pooled inputs by layer norm instead.",
        "Accuracy is that of the 10,000 test images, looked at once, after training; the epoch "
        "was chosen by 5,000 images held out of training. The ResNets' starting weights have seen "
        "the held-out images (in lossless form), so accuracy on those is flattered and is not "
        "reported here. Exact MACs count what has to run, gates included; the paper's convention "
        "leaves out gates and counts masks of the previous layer only. Training ran in bfloat16 "
        "on the forward pass, evaluation in float32. Hours are wall-clock hours on one thread of a "
        "machine that did other work at the same time.",
        table(found),
        "With the softmax nearly every filter runs for all images or for "
        "none: pooled inputs of a softmax over many channels hardly vary between images, and the "
        "biases decide. That is static pruning, whatever its accuracy. With layer norm the masks "
        "do depend on the image, and agree more often with their targets (`mask_accuracy` in the "
        "records), but these runs lost more accuracy at a like or smaller reduction.",
        f"Versions: {versions}. Seed {some['seed']}.",
        "## Commands",
        "```\n" + "\n".join(" ".join(record["command"]) for record in found.values()) + "\n"
        "ftwt eval RUN --data imagefolder:data/cifar10-jpeg    # for each run\n```",
        "## Activity by layer",
    ]
    for name, record in found.items():
        if record["specification"]["pruning"] is not None:
            parts += [f"### {name}", layers(record)]
    return "\n\n".join(parts) + "\n"


def write() -> None:
    """Write the page."""
    found = records()
    PAGE.write_text(page(found))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add", help="record a run").add_argument("run", type=Path, nargs="+")
    commands.add_parser("write", help="write docs/results.md")
    options = parser.parse_args()
    if options.command == "add":
        for run in options.run:
            print(add(run))
    else:
        write()


if __name__ == "__main__":
    main()
