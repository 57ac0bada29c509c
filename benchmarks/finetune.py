"""Fine-tune MobileNets by the general recipe: what its rates leave of trained weights.

    python -m benchmarks.finetune run --data imagefolder:data/cifar10-jpeg --out runs/finetune
    python -m benchmarks.finetune write

`run` trains each plain network from scratch, shortly and on few images, then with gates from there,
and tests it; it may be stopped and started again at any time. `write` makes the table of
docs/recipes.md from the committed records.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks import pages
from ftwt import data
from ftwt.tables import of_text, percent
from ftwt.training import Overrides, recipe, runs
from ftwt.training.records import read_record
from ftwt.training.tested import evaluate_run

RECORDS = pages.RECORDS / "finetune"
PAGE = pages.DOCS / "recipes.md"
NETWORKS = (
    "torchvision:mobilenet_v3_small", "timm:mobilenetv4_conv_small_050", "torchvision:mobilenet_v2",
)  # fmt: skip
IMAGES, TESTED = 2500, 1000
DENSE, GATED = 10, 8


def run(source: str, out: Path) -> None:
    """Train and test what is missing."""
    dataset = data.load(source, limit=IMAGES)
    for network in NETWORKS:
        called = network.replace(":", "-")
        start = out / f"{called}-dense"
        for folder, init, epochs in ((start, None, DENSE), (out / f"{called}-gated", start, GATED)):
            made = recipe(network, Overrides(epochs=epochs), dense=init is None)
            runs.finished_or_trained(made, dataset, folder, name=network, init=init)
        tested = evaluate_run(folder, source, limit=TESTED)
        pages.write(out / f"{called}.json", record(network, tested, start, folder))


def record(network: str, tested: dict[str, Any], start: Path, gated: Path) -> dict[str, Any]:
    """What is kept of a network's two runs."""
    names = ("images", "dense_accuracy", "accuracy", "all_on_accuracy", "reduction_exact")
    whole = read_record(gated)
    return {
        "network": network,
        "train_images": whole["data"]["train_images"],
        "dense_epochs": read_record(start)["epochs"],
        "epochs": whole["epochs"],
        **{name: tested[name] for name in names},
        "versions": tested["versions"],
    }


def table(records: list[dict[str, Any]]) -> str:
    """A row for each network."""
    heads = (
        "network", "epochs, plain + gated", "plain, %", "with gates, %", "MAC reduction, exact, %",
    )  # fmt: skip
    shown = percent(1)
    rows = [
        (
            f"`{one['network']}`",
            f"{one['dense_epochs']} + {one['epochs']}",
            shown(one["dense_accuracy"]),
            shown(one["accuracy"]),
            shown(one["reduction_exact"]),
        )
        for one in records
    ]
    return of_text(heads, rows).markdown()


def page(text: str, records: list[dict[str, Any]]) -> str:
    """docs/recipes.md with the table made anew."""
    return pages.with_part(text, "finetune", table(records))


def read() -> list[dict[str, Any]]:
    """The committed records, in the order of the networks."""
    files = [RECORDS / f"{name.replace(':', '-')}.json" for name in NETWORKS]
    return [pages.read_object(file) for file in files if file.is_file()]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train and test what is missing")
    runner.add_argument("--data", required=True, help="as for `ftwt train`")
    runner.add_argument("--out", type=Path, required=True, help="a folder for runs and records")
    runner.add_argument("--threads", type=int, default=torch.get_num_threads())
    commands.add_parser("write", help="write the table of docs/recipes.md")
    options = parser.parse_args()
    if options.command == "run":
        torch.set_num_threads(options.threads)
        run(options.data, options.out)
    else:
        PAGE.write_text(page(PAGE.read_text(), read()))


if __name__ == "__main__":
    main()
