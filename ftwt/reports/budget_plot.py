"""Drawing budgets: what a grid of rules would save, and trade-offs with error bars."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftwt.budget.estimate import Estimate, EstimateRow
from ftwt.budget.families import base_and_amount
from ftwt.budget.sweep import SweepRow
from ftwt.io.files import make_folder, write_json
from ftwt.reports import drawing
from ftwt.reports.drawing import Axes, Figure
from ftwt.tables import is_share


def estimate_plot(found: Estimate, *, title: str) -> Figure:
    """Draw MAC reduction (%) over what is kept, with the deviation over images as a band."""
    masses = [row for row in found.rows if row.amount("mass") is not None]
    fractions = [row for row in found.rows if row.amount("fraction") is not None]
    label = "heatmap mass, or fraction of filters, kept"
    title = drawing.shortened(f"{title}, {found.images} images", 48)
    with drawing.single_plot(4.4, x=label, y="MAC reduction (%)", title=title) as (figure, axes):
        if masses:
            _lines(axes, masses, "mass", drawing.BLUE, drawing.SKY)
        if fractions:
            _lines(axes, fractions, "top-k", drawing.VERMILION, drawing.ORANGE)
    return figure


def write_estimate(out: Path, found: Estimate, value: Mapping[str, Any], *, title: str) -> None:
    """Write estimate.json, estimate.png and estimate.svg into a folder."""
    drawing.require()
    make_folder(out)
    write_json(out / "estimate.json", dict(value))
    drawing.save_figure(estimate_plot(found, title=title), out, "estimate")


def sweep_plot(rows: Sequence[SweepRow], dense_accuracy: float | None, *, title: str) -> Figure:
    """Draw the score over MAC reduction (%) of trained runs, deviations over seeds as bars."""
    title = drawing.shortened(title, 48)
    score = rows[0].score if rows else "accuracy"
    share = is_share(score)
    scale, label = (100, f"{score} (%)") if share else (1, score)
    with drawing.single_plot(
        4.4, x=drawing.REDUCTION_LABEL, y=label, title=title, margins=(0.15, 0.15)
    ) as (figure, axes):
        if dense_accuracy is not None:
            drawing.line_of_plain(axes, dense_accuracy, share=share)
        accuracy = [scale * row.accuracy for row in rows]
        y_spread = [scale * (row.std_accuracy or 0) for row in rows]
        exact = [100 * row.reduction_exact for row in rows]
        spread = [100 * (row.std_reduction_exact or 0) for row in rows]
        axes.errorbar(
            exact, accuracy, y_spread, spread,
            fmt="o-", color=drawing.BLUE, capsize=3, label="exact MACs",
        )  # fmt: skip
        paper = [100 * row.reduction_paper for row in rows]
        spread = [100 * (row.std_reduction_paper or 0) for row in rows]
        axes.errorbar(
            paper, accuracy, y_spread, spread,
            fmt="s--", color=drawing.SKY, mfc="white", capsize=3, label="paper's count",
        )  # fmt: skip
    places = list(zip(exact, accuracy, strict=True))
    names = [f"r = {row.mass:g}, {row.runs} runs" for row in rows]
    drawing.label_points(axes, places, names, fontsize=8, color=drawing.INK)
    return figure


def _lines(axes: Axes, rows: Sequence[EstimateRow], name: str, colour: str, second: str) -> None:
    kept = [base_and_amount(row.rule)[1] for row in rows]
    exact = [100 * row.reduction_exact for row in rows]
    spread = [100 * row.std_macs / row.dense_macs for row in rows]
    axes.plot(kept, exact, "o-", color=colour, label=f"{name}, exact MACs")
    low = [one - wide for one, wide in zip(exact, spread, strict=True)]
    high = [one + wide for one, wide in zip(exact, spread, strict=True)]
    axes.fill_between(kept, low, high, color=colour, alpha=0.2, linewidth=0)
    paper = [100 * row.reduction_paper for row in rows]
    axes.plot(kept, paper, "s--", color=second, mfc="white", label=f"{name}, paper's count")
    applied = [100 * row.applied.reduction_exact for row in rows if row.applied]
    if applied:
        axes.plot(kept, applied, "x", color=drawing.INK, label=f"{name}, exact, masks applied")
