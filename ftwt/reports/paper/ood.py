"""Shifted inputs: does a gated network spend more where it is harder? And by class, confidence."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ftwt.data import Images
from ftwt.data.splits import limited
from ftwt.reports import drawing
from ftwt.reports.analysis.outcomes import ImageGroup, outcomes
from ftwt.reports.analysis.shifts import SHIFTS, shifted
from ftwt.reports.columns import ACCURACY, EXACT, PAPER
from ftwt.reports.drawing import Axes, Figure
from ftwt.reports.paper.fig2 import _train
from ftwt.reports.paper.images import in_memory
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.study import Study, without_data
from ftwt.tables import Column, Table, count, percent, signed
from ftwt.training.evaluation import evaluate

# Axes of MAC reduction span that many points at least, so that small changes look small.
_POINTS = 2.0


@dataclass(frozen=True)
class Shifted:
    """Test images under one shift at one strength (rank 1 to 5; 0: as they are); fractions."""

    shift: str
    unit: str
    rank: int
    strength: float | None
    dense_accuracy: float
    accuracy: float
    reduction_exact: float
    reduction_paper: float


@dataclass(frozen=True)
class Harder:
    """What shifts, classes and confidence do to accuracy and cost.

    `correlation` is Pearson's of exact MACs and confidence over images; None where one is constant.
    """

    run: str
    network: str
    images: int
    shifts: tuple[Shifted, ...]
    by_class: tuple[ImageGroup, ...]
    by_confidence: tuple[ImageGroup, ...]
    correlation: float | None


def _measure(study: Study) -> Harder:
    """Test the first run with gates, and its plain start, on shifted images.

    Raises:
        FtwtError: no run has gates.
    """
    run, model = study.main()
    plain = run.start()
    images = in_memory(limited(study.test, study.scale.few_images))

    def row(changed: Images, name: str, unit: str, rank: int, strength: float | None) -> Shifted:
        batches = study.batches(changed)
        dense, seen = evaluate(plain, batches), evaluate(model, batches)
        cuts = seen.reduction_exact, seen.reduction_paper
        return Shifted(name, unit, rank, strength, dense.accuracy, seen.accuracy, *cuts)

    rows = [row(images, "as they are", "", 0, None)]
    for shift in SHIFTS:
        for rank, strength in enumerate(shift.strengths, 1):
            changed = shifted(images, shift, strength, seed=study.seed)
            rows.append(row(changed, shift.name, shift.unit, rank, strength))
    whole = outcomes(model, study.batches(study.test))
    return Harder(
        run.name, without_data(run.network), len(images), tuple(rows),
        whole.by_class(study.dataset.classes), whole.by_confidence(), whole.correlation,
    )  # fmt: skip


def _show(found: Harder) -> tuple[Table[Any] | Drawing, ...]:
    """Three figures and their tables."""
    by_shift = Drawing(
        _shifts(found.shifts),
        "Strength 0 is the images as they are; strengths 1 to 5 are listed below. A network that "
        "spends more on harder inputs has a line on the right that falls. MACs are exact, gates "
        "counted.",
        "Accuracy and MAC reduction over the strength of five shifts",
    )
    table = Table(
        (
            Column("shift", "shift"),
            Column("rank", "strength", count),
            Column("strength", "value", lambda value: f"{value:g}"),
            Column("unit", "of what"),
            Column("dense_accuracy", "accuracy, plain (%)", percent(2)),
            Column("accuracy", "accuracy, gated (%)", percent(2)),
            EXACT,
            PAPER,
        ),
        [asdict(row) for row in found.shifts],
        f"{found.network} ({found.run}), {found.images:,} test images, changed by torchvision's "
        "own transforms (JPEG by Pillow).",
    )
    said = (
        "one of the two never varies" if found.correlation is None else signed(found.correlation, 2)
    )
    parts: list[Table[Any] | Drawing] = []
    for shares, what, suffix, text in (
        (found.by_class, "class", "class", "Test images as they are, by true class."),
        (found.by_confidence, "confidence", "confidence",
         "Test images as they are, in five equally large parts by confidence, the largest softmax "
         f"probability. Correlation of exact MACs and confidence over images: {said}."),
    ):  # fmt: skip
        name = f"by {what}"
        parts += [
            Drawing(_shares(shares, what), text, f"MAC reduction and accuracy {name}", suffix),
            Table(
                (Column("name", what), Column("images", "images", count), ACCURACY, EXACT, PAPER),
                [share.to_json() for share in shares],
                f"Measured, {name}.",
                suffix,
            ),
        ]
    return by_shift, table, *parts


def _shifts(rows: Sequence[Shifted]) -> Figure:
    clean = rows[0]
    with drawing.style():
        figure = drawing.new_figure(drawing.WIDTH_INCHES, 1.2 + 1.55 * len(SHIFTS))
        grid = figure.subplots(len(SHIFTS), 2, sharex=True, sharey="col")
        for (left, right), shift in zip(grid, SHIFTS, strict=True):
            line = [clean, *(row for row in rows if row.shift == shift.name)]
            _lines(left, right, line)
            left.set_title(shift.name, fontsize=10)
        # The column shares its axis.
        grid[0, 1].set_ylim(drawing.widened(grid[0, 1].get_ylim(), _POINTS))
        grid[0, 1].set_title("MAC reduction, exact (%)", fontsize=10)
        grid[0, 0].set_title(f"{SHIFTS[0].name}: accuracy (%)", fontsize=10)
        for axes in grid[-1]:
            axes.set_xlabel("strength")
            axes.set_xticks(range(6))
        entries = grid[0, 0].get_legend_handles_labels()
        figure.legend(*entries, loc="outside lower left", ncols=2)
    return figure


def _lines(left: Axes, right: Axes, line: Sequence[Shifted]) -> None:
    ranks = [row.rank for row in line]
    plain = [100 * row.dense_accuracy for row in line]
    left.plot(ranks, plain, "s--", color=drawing.GREY, markersize=4, label="plain network")
    gated = [100 * row.accuracy for row in line]
    left.plot(ranks, gated, "o-", color=drawing.BLUE, markersize=4, label="gated network")
    cut = [100 * row.reduction_exact for row in line]
    right.plot(ranks, cut, "o-", color=drawing.BLUE, markersize=4)
    for axes in (left, right):
        axes.grid(visible=True)
        axes.margins(0.05, 0.15)


def _shares(shares: Sequence[ImageGroup], what: str) -> Figure:
    places = list(range(len(shares)))[::-1]
    with drawing.style():
        figure = drawing.new_figure(drawing.WIDTH_INCHES, 1.5 + 0.3 * len(shares))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes in (left, right):
            axes.margins(0.15)
        cuts = [100 * share.reduction_exact for share in shares]
        left.plot(cuts, places, "o", color=drawing.BLUE)
        left.set_xlim(drawing.widened(left.get_xlim(), _POINTS))
        left.set_xlabel("MAC reduction, exact (%)")
        left.set_yticks(places, [drawing.shortened(share.name, 16) for share in shares], fontsize=9)
        left.set_ylabel(what)
        right.plot([100 * share.accuracy for share in shares], places, "s", color=drawing.ORANGE)
        right.set_xlabel("accuracy (%)")
        for axes in (left, right):
            axes.grid(visible=True)
            axes.set_ylim(-0.6, len(shares) - 0.4)
    return figure


ITEM = Item(
    "ood",
    "Shifted inputs, classes and confidence",
    "Gates that choose for each image could spend more where it is harder. Here the images are "
    "blurred, made noisy, paler, darker or compressed, and the spending is looked at by class and "
    "by how sure the network is.",
    _train,
    _measure,
    _show,
)
