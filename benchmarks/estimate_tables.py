"""The tables of docs/budgets.md, one for each record of `benchmarks.estimate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.pages import read_all
from ftwt.tables import of_text


def tables(records: Path) -> str:
    """All tables, one below the other, from a folder of records."""
    return "\n\n".join(
        make(record)
        for start, make in TABLES.items()
        for name, record in read_all(records).items()
        if name.startswith(start)
    )


def _cost_table(record: dict[str, Any]) -> str:
    heads = ("network", "plain pass, s", "estimate, s", "ratio (range)")
    rows = [
        (
            row["network"], f"{row['plain_seconds']:.2f}", f"{row['estimate_seconds']:.2f}",
            f"{row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})",
        )
        for row in record["rows"]
    ]  # fmt: skip
    return (
        f"**One pass.** {record['masses']} masses on {record['images']} images against one plain "
        f"evaluation pass, {record['threads']} thread, alternating, medians of "
        f"{len(record['rows'][0]['ratios'])} pairs.\n\n" + of_text(heads, rows).markdown()
    )


def _prediction_table(record: dict[str, Any]) -> str:
    heads = (
        "run", "trained on", "images looked at", "one pass", "masks applied", "trained",
        "applied - trained, points", "one pass - trained, points", "oracle's accuracy, %",
        "trained accuracy, %",
    )  # fmt: skip
    rows = [
        (
            row["run"], _trained_on(row), f"{row['images']:,}", _percent(row["one_pass"]),
            _percent(row["applied"]), _percent(row["trained"]),
            _points(row["applied"] - row["trained"]), _points(row["one_pass"] - row["trained"]),
            _percent(row["oracle_accuracy"]), _percent(row["accuracy"]),
        )
        for row in record["rows"]
    ]  # fmt: skip
    return (
        "**Prediction and outcome.** Exact MAC reduction in %, gates counted: an oracle on the "
        "starting weights and validation images, and the trained gates on the test images. Within "
        f"3 points of the outcome: one pass for {_near(record, 'one_pass')}, masks applied for "
        f"{_near(record, 'applied')} of {len(rows)} runs.\n\n" + of_text(heads, rows).markdown()
    )


def _near(record: dict[str, Any], prediction: str) -> int:
    """Runs whose outcome a prediction met within 3 points."""
    return sum(abs(row[prediction] - row["trained"]) <= 0.03 for row in record["rows"])


def _solve_table(record: dict[str, Any]) -> str:
    heads = (
        "run", "images", "asked, %", "mass", "came, %", "one pass, %", "oracle's accuracy, %",
        "plain accuracy, %",
    )  # fmt: skip
    names = ("predicted", "one_pass", "accuracy", "dense_accuracy")
    rows = [
        (
            row["run"], f"{row['images']:,}", _percent(row["asked"]),
            "by layer" if row["per_layer"] else "one", *(_percent(row[name]) for name in names),
        )
        for row in record["rows"]
    ]  # fmt: skip
    return (
        "**Solving.** Under an oracle with the masks applied, on some validation images; no "
        "training.\n\n" + of_text(heads, rows).markdown()
    )


def _trained_table(record: dict[str, Any]) -> str:
    heads = (
        "run", "asked", "one pass", "trained", "its accuracy", "calibrated", "its accuracy",
        "on test", "its accuracy",
    )  # fmt: skip
    pairs = (("trained", "reduction"), ("calibrated", "measured"), ("test", "reduction_exact"))
    rows = [
        (
            row["run"], _percent(row["asked"]), _percent(row["one_pass"]),
            *(_percent(row[at][one]) for at, name in pairs for one in (name, "accuracy")),
        )
        for row in record["rows"]
    ]  # fmt: skip
    commands = "\n".join(" ".join(row["command"]) for row in record["rows"])
    return (
        "**Training for a budget.** Exact MAC reduction and accuracy in %: trained and calibrated "
        f"on validation images, then on {record['rows'][0]['test']['images']:,} test images.\n\n"
        + of_text(heads, rows).markdown()
        + f"\n\n```\n{commands}\n```"
    )


def _curve_table(record: dict[str, Any]) -> str:
    heads = (
        "trained separately", "on", "its reduction, %", "its accuracy, %",
        "one model's reduction, %", "one model's accuracy, %", "difference, points",
    )  # fmt: skip
    names = ("other_reduction", "other_accuracy", "reduction", "accuracy")
    rows = [
        (
            row["other"], _trained_on(row), *(_percent(row[name]) for name in names),
            _points(row["accuracy"] - row["other_accuracy"]),
        )
        for row in record["rows"]
        if row["other"] != record["run"]
    ]  # fmt: skip
    return (
        f"**One model, several budgets.** `{record['run']}` at the reductions of others, by "
        f"thresholds calibrated on validation images, on {record['test_images']:,} test images.\n\n"
        + of_text(heads, rows).markdown()
        + f"\n\n```\n{' '.join(record['command'])}\n```"
    )


def _sweep_table(record: dict[str, Any]) -> str:
    plan = record["sweep"]
    names = ("accuracy", "reduction_exact", "reduction_paper")
    heads = (
        "mass", "seeds", "accuracy, %", "MAC reduction exact, %", "in the paper's convention, %",
    )  # fmt: skip
    rows = [
        (
            f"{row['mass']:g}", str(row["runs"]),
            *(f"{_percent(row[one])} ± {_percent(row[f'std_{one}'])}" for one in names),
        )
        for row in record["rows"]
    ]  # fmt: skip
    masses = ",".join(f"{row['mass']:g}" for row in record["rows"])
    return (
        f"**A sweep.** Test images, mean ± standard deviation over seeds; the plain network "
        f"{_percent(record['dense_accuracy'])} %.\n\n"
        + of_text(heads, rows).markdown()
        + f"\n\n```\nftwt sweep {plan['recipe']} --data {plan['data']} --init {plan['init']} "
        f"--mass {masses} --seeds {record['rows'][0]['runs']} "
        f"--epochs {plan['choices']['epochs']} --limit {plan['limit']} "
        f"--out {record['folder']}\n```"
    )


# By the names that records begin with, in the order of the page.
TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "cost": _cost_table,
    "prediction": _prediction_table,
    "solve": _solve_table,
    "trained": _trained_table,
    "curve": _curve_table,
    "sweep": _sweep_table,
}


def _trained_on(row: dict[str, Any]) -> str:
    return f"{row['train_images']:,} images, {row['epochs']} epochs"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"
