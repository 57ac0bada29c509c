"""Budgets, measured: `python -m benchmarks.estimate PART ...` writes a record of that part.

cost                             20 masses in one pass against one plain evaluation pass
prediction RUN ... --data D      predicted reduction beside that of trained runs
solve RUN ... --data D           0.3, 0.5 and 0.7 under an oracle, one mass and one a layer
curve RUN --others RUN ... --data D    one model at several reductions against trained ones
sweep FOLDER                     what `ftwt sweep` found, from its record
page                             the tables of docs/budgets.md, from the records
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import ftwt
from benchmarks import pages
from benchmarks.estimate_tables import TABLES, tables
from benchmarks.pages import read_object
from ftwt import budget, data, targets
from ftwt.budget import named
from ftwt.data.batches import evaluation_batches
from ftwt.io import storage
from ftwt.targets.interface import without_gradient
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import as_trained
from ftwt.training.records import versions

RECORDS = pages.RECORDS / "estimate"
PAGE = pages.DOCS / "budgets.md"
NETWORKS = ("cifar10-resnet20", "cifar10-resnet56", "cifar10-vgg16_bn", "cifar10-mobilenet_v1")
MASSES = tuple(round(0.05 + 0.05 * place, 2) for place in range(20))


def cost(networks: list[str], *, images: int = 256, rounds: int = 12) -> dict[str, Any]:
    """Seconds of a plain pass and of an estimate of 20 masses, alternating; medians."""
    rows = []
    for name in networks:
        torch.manual_seed(0)
        plain = ftwt.networks.build(name).eval()
        model = ftwt.attach(plain, ftwt.Pruning(), example=ftwt.networks.example(name))
        loader = [(torch.randn(128, 3, 32, 32), torch.zeros(128).long())] * (images // 128)
        rules = [targets.HeatmapMass(mass) for mass in MASSES]
        pairs = []
        for _ in range(rounds + 1):
            dense = _seconds(partial(evaluate, plain, loader))
            grid = _seconds(partial(ftwt.estimate, model, loader, rules))
            pairs.append((dense, grid))
        # The first round warms up.
        ratios = [grid / dense for dense, grid in pairs[1:]]
        rows.append(
            {
                "network": name,
                "plain_seconds": statistics.median(dense for dense, _ in pairs[1:]),
                "estimate_seconds": statistics.median(grid for _, grid in pairs[1:]),
                "ratio": statistics.median(ratios),
                "ratios": ratios,
            }
        )
        print(name, f"{rows[-1]['ratio']:.2f}", flush=True)
    return {"images": images, "masses": len(MASSES), "rows": rows}


def _tested(run: Path) -> dict[str, Any]:
    """What the whole test set said of a run."""
    file = run / "eval.json"
    if not file.is_file():
        raise SystemExit(
            f"benchmarks.estimate: {run} was not tested on all images; run "
            f"ftwt eval {run} --data ... without --limit first"
        )
    return read_object(file)


def prediction(runs: list[Path], name: str, *, limit: int) -> dict[str, Any]:
    """What an oracle on the starting weights predicts, and what the trained gates do on test."""
    dataset = data.load(name)
    rows = []
    for run in runs:
        tested = _tested(run)
        trained, card = storage.load(run)
        assert isinstance(trained, ftwt.Gated)
        start = storage.load(run / "dense.safetensors")[0]
        example = torch.zeros(1, *trained.anatomy.expected[0])
        model = ftwt.attach(start, trained.pruning, example=example, where=trained.sites).eval()
        images = named.validation(as_trained(run.name, card, dataset), limit=limit)
        rule = without_gradient(trained.pruning.target, "estimate")
        row = budget.estimate(model, images, [rule], sequential=True).rows[0]
        assert row.applied is not None
        gates = row.mean_gate_macs / row.dense_macs
        rows.append(
            {
                "run": run.name,
                **_trained_on(run),
                "mass": row.amount("mass"),
                "images": limit,
                "one_pass": row.reduction_with_gates,
                # The gates' cost is that of the one pass: a little more than with masks applied.
                "applied": row.applied.reduction_exact - gates,
                "trained": tested["reduction_exact"],
                "oracle_accuracy": row.applied.accuracy,
                "accuracy": tested["accuracy"],
                "dense_accuracy": tested["dense_accuracy"],
            }
        )
        print(rows[-1], flush=True)
    return {"data": name, "rows": rows}


def solving(runs: list[Path], name: str, *, limit: int) -> dict[str, Any]:
    """Solutions for three budgets on the weights of some dense runs."""
    dataset = data.load(name)
    rows = []
    for run in runs:
        found = named.load_gated(str(run), dataset)
        images = named.validation(found.dataset, limit=limit)
        for reduction in (0.3, 0.5, 0.7):
            for per_layer in (False, True):
                begin = time.perf_counter()
                solution = ftwt.solve(found.model, images, reduction=reduction, per_layer=per_layer)
                rows.append(
                    {
                        "run": run.name,
                        "per_layer": per_layer,
                        "seconds": time.perf_counter() - begin,
                        **solution.to_json(),
                    }
                )
                print(run.name, reduction, per_layer, solution.predicted, solution.accuracy,
                      f"{rows[-1]['seconds']:.0f} s", flush=True)  # fmt: skip
    return {"data": name, "rows": rows}


def curve(
    run: Path, others: list[Path], name: str, *, limit: int, test: int | None
) -> dict[str, Any]:
    """One run at the exact reductions of others, without training."""
    model, card = storage.load(run)
    dataset = as_trained(run.name, card, data.load(name))
    assert isinstance(model, ftwt.Gated)
    tested = {one: _tested(one) for one in [run, *others]}
    wanted = sorted(value["reduction_exact"] for value in tested.values())
    images = named.validation(dataset, limit=limit)
    calibrated = ftwt.calibrate(model, images, reductions=wanted)
    batches = evaluation_batches(dataset, dataset.test, limit=test)
    rows = []
    for one in sorted(tested, key=lambda one: float(tested[one]["reduction_exact"])):
        here = evaluate(calibrated.at(reduction=tested[one]["reduction_exact"]), batches)
        other = evaluate(storage.load(one)[0], batches)
        rows.append(
            {
                "other": one.name,
                **_trained_on(one),
                "asked": tested[one]["reduction_exact"],
                "reduction": here.reduction_exact,
                "accuracy": here.accuracy,
                "other_reduction": other.reduction_exact,
                "other_accuracy": other.accuracy,
            }
        )
        print(rows[-1], flush=True)
    command = read_object(run / "run.json")["command"]
    return {
        "run": run.name,
        "command": command,
        "data": name,
        "test_images": here.images,
        "rows": rows,
    }


def trained(runs: list[Path]) -> dict[str, Any]:
    """Runs that were trained for a budget, with their evaluation on test images."""
    rows = []
    for run in runs:
        record = read_object(run / "run.json")
        one = record["budget"]
        tested = _tested(run)
        rows.append(
            {
                "run": run.name,
                "command": record["command"],
                "hours": record["hours"],
                **{name: one[name] for name in ("asked", "one_pass", "trained")},
                "calibrated": {name: one["calibrated"][name] for name in ("accuracy", "measured")},
                "test": {
                    name: tested[name]
                    for name in ("images", "accuracy", "dense_accuracy", "reduction_exact")
                },
            }
        )
    return {"rows": rows}


def swept(folder: Path) -> dict[str, Any]:
    """What a sweep found."""
    found = read_object(folder / "sweep.json")
    return {"folder": str(folder), **found}


def main() -> None:
    """Measure one part and write its record, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=(*TABLES, "page"))
    parser.add_argument("names", nargs="*", help="runs; for cost, networks")
    parser.add_argument("--others", type=Path, nargs="*", default=[])
    parser.add_argument("--data", default="imagefolder:data/cifar10-jpeg")
    parser.add_argument("--limit", type=int, default=1000, help="validation images")
    parser.add_argument("--test", type=int, help="test images of a curve; all by default")
    options = parser.parse_args()
    if options.part == "page":
        PAGE.write_text(page(PAGE.read_text()))
        return
    torch.set_num_threads(1)
    runs = [Path(name) for name in options.names]
    name = options.part
    match options.part:
        case "cost":
            found = cost(options.names or list(NETWORKS))
        case "prediction":
            found = prediction(runs, options.data, limit=options.limit)
        case "solve":
            found = solving(runs, options.data, limit=options.limit)
        case "trained":
            found = trained(runs)
        case "sweep":
            found = swept(runs[0])
        case _:
            name = f"curve-{runs[0].name}"
            found = curve(
                runs[0], options.others, options.data, limit=options.limit, test=options.test
            )
    record = {**found, "versions": versions(), "threads": torch.get_num_threads()}
    file = RECORDS / f"{name}.json"
    if name in ("prediction", "solve") and file.is_file():
        # Runs that were measured before keep their rows.
        done = {_key(row) for row in record["rows"]}
        kept = [row for row in read_object(file)["rows"] if _key(row) not in done]
        record["rows"] = sorted(kept + record["rows"], key=_key)
    pages.write(file, record)


def page(text: str) -> str:
    """The page with its tables made from the records again."""
    return pages.with_part(text, "measured", f"\n{tables(RECORDS)}\n")


def _trained_on(run: Path) -> dict[str, int]:
    """How long a run was trained, which its name does not tell."""
    record = read_object(run / "run.json")
    return {"train_images": record["data"]["train_images"], "epochs": record["epochs"]}


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    """Which run a row is of; for a solution also what was asked."""
    names = ("run", "train_images", "epochs", "asked", "per_layer")
    return tuple(str(row.get(name)) for name in names)


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
