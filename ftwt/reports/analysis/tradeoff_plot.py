"""Accuracy over MAC reduction: perfect gates as curves, trained networks as points."""

from collections.abc import Mapping, Sequence

from ftwt.reports import drawing
from ftwt.reports.analysis.curve import Curve, CurveRow, HasReductions
from ftwt.reports.drawing import Axes, Figure

_TRAINED = (drawing.VERMILION, drawing.GREEN, drawing.ORANGE, drawing.INK)
# What keeps a label readable across a line.
_GROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
_MARKERS = ("D", "^", "v", "P")


def tradeoff(curve: Curve, *, trained: Mapping[str, HasReductions] | None = None) -> Figure:
    """Draw accuracy (%) over MAC reduction (%) in both conventions.

    Args:
        curve: what a perfect gate saves and loses at each mass.
        trained: results of trained networks by the name that the legend shows, such as an
            `Activity` or a `training.Evaluation`; at most four look different.
    """
    trained = trained or {}
    rows = sorted(curve.rows, key=lambda row: row.reduction_exact)
    title = "Accuracy over MAC reduction"
    with drawing.single_plot(
        4.4, x=drawing.REDUCTION_LABEL, y="accuracy (%)", title=title, margins=(0.05, 0.1)
    ) as (figure, axes):
        drawing.line_of_plain(axes, curve.dense_accuracy)
        places = _oracle(axes, rows)
        for place, (name, result) in enumerate(trained.items()):
            _trained(axes, name, result, _TRAINED[place % 4], _MARKERS[place % 4])
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    names = [f"r = {row.mass:g}" for row in rows]
    drawing.label_points(axes, places, names, fontsize=8, color=drawing.BLUE, bbox=_GROUND)
    return figure


def _oracle(axes: Axes, rows: Sequence[CurveRow]) -> list[tuple[float, float]]:
    """Draw perfect gates in both counts; gives the places of the exact one."""
    accuracy = [100 * row.accuracy for row in rows]
    exact = [100 * row.reduction_exact for row in rows]
    paper = [100 * row.reduction_paper for row in rows]
    axes.plot(exact, accuracy, "o-", color=drawing.BLUE, label="perfect gate, exact MACs")
    axes.plot(
        paper,
        accuracy,
        "s--",
        color=drawing.SKY,
        markerfacecolor="white",
        label="perfect gate, paper's count",
    )
    return list(zip(exact, accuracy, strict=True))


def _trained(axes: Axes, name: str, result: HasReductions, colour: str, marker: str) -> None:
    """A filled point for the exact count, joined to a hollow one for the paper's."""
    accuracy = 100 * result.accuracy
    exact, paper = 100 * result.reduction_exact, 100 * result.reduction_paper
    axes.plot([exact, paper], [accuracy] * 2, color=colour, linewidth=1, zorder=3)
    for x, face, count in ((exact, colour, "exact MACs"), (paper, "white", "paper's count")):
        axes.plot(
            x,
            accuracy,
            marker,
            markersize=9,
            color=colour,
            markerfacecolor=face,
            linestyle="none",
            zorder=4,
            label=f"{name}, {count}",
        )
