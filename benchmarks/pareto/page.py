"""What the records show: rows, a table, a plot, and docs/pareto.md."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import pages
from benchmarks.pareto.arms import ARMS
from ftwt.tables import of_text

PAGE = pages.DOCS / "pareto.md"

Records = Sequence[dict[str, Any]]

# What an arm may miss of the reduction asked for, and still be compared: thresholds are chosen on
# validation images, and test images take some tenths of a point more.
_MISSED = 0.01


def rows(records: Records) -> list[dict[str, Any]]:
    """One row a record; accuracies, drops and reductions are fractions.

    `drop` is against the dense control of the same network, seed and number of epochs.
    `recommended`: over its seeds no other arm was more accurate that kept the reduction asked for,
    to a point.
    """
    control = {_key(one): one["accuracy"] for one in records if one["arm"] == "dense"}
    best = {group: _best(records, group) for group in {_group(one) for one in records}}
    found = []
    for one in records:
        dense = control.get(_key(one))
        found.append(
            {
                **{name: one[name] for name in ("network", "arm", "seed", "epochs", "asked")},
                "accuracy": one["accuracy"],
                "drop": None if dense is None else dense - one["accuracy"],
                "reduction_exact": one["reduction_exact"],
                "recommended": one["arm"] == best[_group(one)],
                "ms": one["ms"],
            }
        )
    return sorted(found, key=lambda row: (row["network"], row["asked"] or 0, -row["accuracy"]))


def _key(one: dict[str, Any]) -> tuple[str, int, int]:
    return one["network"], one["epochs"], one["seed"]


def _group(one: dict[str, Any]) -> tuple[str, int, float | None]:
    return one["network"], one["epochs"], one["asked"]


def _best(records: Records, group: tuple[str, int, float | None]) -> str | None:
    """The arm with the highest mean accuracy at one reduction; None for the dense control."""
    if group[2] is None:
        return None
    by_arm: dict[str, list[float]] = {}
    for one in records:
        if _group(one) == group and one["reduction_exact"] >= one["asked"] - _MISSED:
            by_arm.setdefault(one["arm"], []).append(one["accuracy"])
    return max(by_arm, key=lambda arm: statistics.mean(by_arm[arm])) if by_arm else None


def table(found: list[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    heads = (
        "network", "asked, %", "arm", "seed", "accuracy, %", "drop, points",
        "reduction exact, %", "ms",
    )  # fmt: skip
    rows = [
        (
            row["network"].partition("-")[2],
            "" if row["asked"] is None else f"{100 * row['asked']:g}",
            f"**{row['arm']}**" if row["recommended"] else row["arm"],
            str(row["seed"]),
            f"{100 * row['accuracy']:.2f}",
            "" if row["drop"] is None else f"{100 * row['drop']:.2f}",
            f"{100 * row['reduction_exact']:.1f}",
            "" if row["ms"] is None else f"{row['ms']:.2f}",
        )
        for row in found
    ]
    return of_text(heads, rows).markdown()


@dataclass(frozen=True)
class Goal:
    """What the recommended arm should reach at a reduction, in points of accuracy."""

    network: str
    asked: float
    drop: float
    gain: float


GOALS = (
    Goal("cifar10-resnet20", 0.5, 0.5, 1.0),
    Goal("cifar10-resnet20", 0.65, 1.5, 1.5),
    Goal("cifar10-resnet56", 0.55, 0.3, 0.7),
    Goal("cifar10-mobilenet_v1", 0.65, 0.3, 1.0),
)


def goals(found: list[dict[str, Any]]) -> str:
    """Each goal beside what the recommended arm reached, mean over seeds."""
    heads = (
        "network", "reduction, %", "recommended", "drop, points", "goal",
        "over the best fixed masks", "goal",
    )  # fmt: skip
    rows = []
    for goal in GOALS:
        here = [
            row for row in found if (row["network"], row["asked"]) == (goal.network, goal.asked)
        ]
        best = [row for row in here if row["recommended"]]
        drops = [100 * row["drop"] for row in best if row["drop"] is not None]
        # Of the same seeds: an arm that was trained for fewer is no rival in the mean.
        seeds = {row["seed"] for row in best}
        fixed = [
            _mean(here, arm, seeds)
            for arm in FIXED
            if seeds and seeds <= {row["seed"] for row in here if row["arm"] == arm}
        ]
        gain = _mean(here, best[0]["arm"], seeds) - max(fixed) if fixed else None
        rows.append((
            goal.network.partition("-")[2], f"{100 * goal.asked:g}",
            best[0]["arm"] if best else "not measured",
            _points(statistics.mean(drops) if drops else None), _at("most", goal.drop),
            _points(gain), _at("least", goal.gain),
        ))  # fmt: skip
    return of_text(heads, rows).markdown()


# Arms whose masks are the same for every image.
FIXED = ("static-l2", "static-l1", "static-sensitivity", "static-ranked", "torch-pruning")


def _mean(found: list[dict[str, Any]], arm: str, seeds: set[int]) -> float:
    accuracies: list[float] = [
        row["accuracy"] for row in found if row["arm"] == arm and row["seed"] in seeds
    ]
    return 100 * statistics.mean(accuracies)


def _at(end: str, value: float) -> str:
    return f"at {end} {value:g}"


def _points(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


def page(records: Records) -> str:
    """The whole page."""
    found = rows(records)
    made = "\n".join(f"- `{name}`: {arm.about}." for name, arm in ARMS.items())
    commands = "\n".join(sorted(" ".join(_command(one)) for one in records))
    measured = [
        table(found),
        "*drop* is against the dense network trained as long. Bold: the best arm at that "
        "reduction, which is what ftwt recommends there. *ms* is the mean over test images, one at "
        "a time, of the median of rounds in which all arms take turns, by this library's kernels; "
        "networks with fixed masks are cut first. It follows MACs only where a network is large "
        "enough: so small ones as ResNet-20 mostly take what each layer and each pass costs at "
        "least.",
    ]
    return "\n\n".join([
        "# Accuracy at equal cost",
        "Made by `python -m benchmarks.pareto page` from `benchmarks/records/pareto/`; do not "
        "edit.",
        "Ways to make a network cheaper, at equal exact MACs and trained alike: the same dense "
        "start, epochs, augmentation, order of images, learning rates, and distillation from "
        "that start. MACs count everything that runs, gates and first passes included. The epoch "
        "is chosen by 5,000 images held out of training; the 10,000 test images are looked "
        "at once.",
        made,
        "## Measured",
        *(measured if records else ["No arm has been measured yet."]),
        "## Goals",
        goals(found),
        "## Commands",
        "A run that was stopped goes on with the same command.",
        "```\n" + (commands or _EXAMPLE) + "\npython -m benchmarks.pareto table\n```",
    ]) + "\n"  # fmt: skip


_EXAMPLE = (
    "python -m benchmarks.pareto run cifar10-resnet20 escalated --reduction 0.5 "
    "--data imagefolder:DIR --start runs/resnet20-dense --out runs/pareto"
)


def _command(one: dict[str, Any]) -> list[str]:
    """How a record is made; where an arm's networks are other arms' runs, its own command."""
    options = {
        "--reduction": one["asked"], "--seed": one["seed"], "--epochs": one["epochs"],
        "--data": "imagefolder:DIR", "--start": one["start"], "--out": "runs/pareto",
    }  # fmt: skip
    given = (str(word) for pair in options.items() for word in pair if pair[1] is not None)
    return ["python", "-m", "benchmarks.pareto", "run", one["network"], one["arm"], *given]


def write(records: Records) -> None:
    """Write docs/pareto.md."""
    PAGE.write_text(page(records))
