"""Arms at equal exact MACs under one recipe: train, test once, compare.

    python -m benchmarks.pareto arms
    python -m benchmarks.pareto run NETWORK ARM --reduction 0.5 --data D --start RUN --out DIR
    python -m benchmarks.pareto time NETWORK --data D --out DIR --threads 2
    python -m benchmarks.pareto table --json
    python -m benchmarks.pareto page

A run that was killed goes on with the same command, to the same numbers. An arm that has a record
is not tested again.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import pages
from benchmarks.pareto import page, record, timing
from benchmarks.pareto.arms import ARMS
from benchmarks.pareto.study import Study
from ftwt.errors import FtwtError
from ftwt.io import storage


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pareto", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("arms", help="list the arms")
    runner = commands.add_parser("run", help="train an arm and test it once")
    runner.add_argument("network", help="a name of ftwt.networks, such as cifar10-resnet20")
    runner.add_argument("arm", choices=ARMS)
    runner.add_argument("--reduction", type=float, default=0.5, help="share of MACs to save")
    runner.add_argument("--seed", type=int, default=0)
    runner.add_argument("--epochs", type=int, default=6)
    runner.add_argument("--data", required=True, help="as for `ftwt train`")
    runner.add_argument("--start", type=Path, required=True, help="the dense network's run folder")
    runner.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    runner.add_argument("--threads", type=int, default=1)
    runner.add_argument("--records", type=Path, default=record.RECORDS)
    timer = commands.add_parser("time", help="time a network's recorded arms, side by side")
    timer.add_argument("network")
    timer.add_argument("--data", required=True, help="as for `ftwt train`")
    timer.add_argument("--out", type=Path, required=True, help="the folder of the runs")
    timer.add_argument("--images", type=int, default=200)
    timer.add_argument("--threads", type=int, default=1)
    timer.add_argument("--records", type=Path, default=record.RECORDS)
    shown = commands.add_parser("table", help="the rows that the records make")
    shown.add_argument("--json", action="store_true")
    shown.add_argument("--records", type=Path, default=record.RECORDS)
    commands.add_parser("page", help="write docs/pareto.md and its plot")
    options = parser.parse_args()
    try:
        match options.command:
            case "arms":
                print("\n".join(f"{name:20} {arm.about}" for name, arm in ARMS.items()))
            case "run":
                _run(options)
            case "time":
                _time(options)
            case "table":
                rows = page.rows(record.read(options.records))
                print(json.dumps({"rows": rows}) if options.json else page.table(rows))
            case "page":
                page.write(record.read())
    except FtwtError as error:
        sys.exit(str(error))


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    study = Study(
        options.network, options.data, options.start, options.out, options.epochs, options.seed
    )
    name = record.name_of(study, options.arm, options.reduction)
    file, saved = options.records / f"{name}.json", options.out / f"{name}.safetensors"
    if not (file.is_file() and saved.is_file()):
        made = ARMS[options.arm].make(study, options.reduction)
        card = replace(storage.load(study.start)[1], extra={"pareto": name})
        storage.save(made.model, saved, card)
    if not file.is_file():
        found = record.record(study, options.arm, options.reduction, made.model, made.run)
        pages.write(file, found)
    print(file.read_text(), end="")


def _time(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    kept = {
        name: one
        for name, one in pages.read_all(options.records).items()
        if one["network"] == options.network
    }
    found = timing.timed(list(kept), options.out, options.data, options.images)
    for name, one in found.items():
        timed = kept[name] | {"ms": one["ms"], "timed": one}
        pages.write(options.records / f"{name}.json", timed)
        print(f"{name}: {one['ms']:.3f} ms")


if __name__ == "__main__":
    main()
