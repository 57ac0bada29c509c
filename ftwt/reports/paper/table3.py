"""Table 3: joint against decoupled training, at equal reduction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from ftwt.errors import FtwtError
from ftwt.gated.pruning import Coupling
from ftwt.reports import drawing
from ftwt.reports.columns import EXACT, PAPER
from ftwt.reports.drawing import Figure
from ftwt.reports.paper import published
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.runs import RecordedRun
from ftwt.reports.paper.study import Study, without_data
from ftwt.tables import Column, Table, percent, points


@dataclass(frozen=True)
class Coupled:
    """One run, decoupled or joint; fractions."""

    network: str
    how: str
    run: str
    coupling: str
    accuracy: float
    reduction_exact: float
    reduction_paper: float
    # Of decoupled runs trained alike, at this exact reduction; None outside of what they span, and
    # for decoupled runs themselves.
    decoupled_accuracy: float | None = None


@dataclass(frozen=True)
class Couplings:
    """All runs of the networks that were trained both ways."""

    runs: tuple[Coupled, ...]

    def to_json(self) -> dict[str, Any]:
        """All runs, and the published pairs."""
        return asdict(self) | {"published": [list(row) for row in published.COUPLINGS]}


def _train(study: Study) -> None:
    """Each mass both ways."""
    couplings: tuple[Coupling, ...] = ("decoupled", "joint")
    for coupling in couplings:
        for mass in study.scale.masses:
            study.by_mass(mass, coupling=coupling)


def _measure(study: Study) -> Couplings:
    """Compare joint runs with decoupled ones that were trained alike.

    Alike are network, gates, images and epochs; masses and seeds may differ.

    Raises:
        FtwtError: no network was trained alike both ways.
    """
    alike: dict[tuple[Any, ...], list[Coupled]] = {}
    for run in study.runs:
        if run.gated is not None and run.amount("mass") is not None:
            pruning = run.gated.pruning
            key = pruning.gate, pruning.estimator, *run.trained_on
            alike.setdefault(key, []).append(_coupled(study, run))
    rows = [
        _beside(one, group)
        for group in alike.values()
        if {one.coupling for one in group} == {"decoupled", "joint"}
        for one in group
    ]
    if not rows:
        raise FtwtError(
            "paper: table3 needs runs of one network with --coupling joint and with decoupled, of "
            f"as many images and epochs; among {len(study.runs)} runs no network has both"
        )
    return Couplings(tuple(sorted(rows, key=_order)))


def _coupled(study: Study, run: RecordedRun) -> Coupled:
    assert run.gated is not None
    seen, coupling = study.tested(run), run.gated.pruning.coupling
    cuts = seen.reduction_exact, seen.reduction_paper
    return Coupled(without_data(run.network), run.how, run.name, coupling, seen.accuracy, *cuts)


def _order(one: Coupled) -> tuple[str, str, float]:
    return one.network, one.coupling, one.reduction_exact


def _beside(one: Coupled, group: Sequence[Coupled]) -> Coupled:
    """A joint run with what decoupled ones reach at its reduction, seeds of a mass averaged."""
    if one.coupling == "decoupled":
        return one
    by_mass: dict[str, list[Coupled]] = {}
    for row in group:
        if row.coupling == "decoupled":
            by_mass.setdefault(row.how, []).append(row)
    line = sorted(
        (fmean(row.reduction_exact for row in rows), fmean(row.accuracy for row in rows))
        for rows in by_mass.values()
    )
    return replace(one, decoupled_accuracy=interpolate(line, one.reduction_exact))


def interpolate(line: Sequence[tuple[float, float]], at: float) -> float | None:
    """The height of a line through points (x, y) in rising x; None outside of them."""
    for (low, bottom), (high, top) in pairwise(line):
        if low <= at <= high:
            share = (at - low) / (high - low) if high > low else 0.0
            return bottom + share * (top - bottom)
    return None


def _show(found: Couplings) -> tuple[Table[Any] | Drawing, ...]:
    """The figure, the measured table and the published one."""
    rows = []
    for one in found.runs:
        beside = one.decoupled_accuracy
        gap = None if beside is None else one.accuracy - beside
        rows.append(asdict(one) | {"difference": gap})
    measured = Table(
        (
            Column("network", "network"),
            Column("coupling", "coupling"),
            Column("how", "pruned how"),
            Column("accuracy", "accuracy (%)", percent(2)),
            EXACT,
            PAPER,
            Column("decoupled_accuracy", "decoupled at that exact reduction (%)", percent(2)),
            Column("difference", "joint against it (points)", points),
            Column("run", "run"),
        ),
        rows,
        "Measured on test images; runs of as many training images and epochs. At equal "
        "reduction: the decoupled runs' accuracy, averaged over seeds of a mass, is interpolated "
        "linearly at the joint run's exact reduction; it is left out where no two masses span it.",
    )
    theirs = published.published_table(
        (
            Column("network", "network"),
            Column("data", "data"),
            Column("joint", "published joint accuracy (%)", percent(2)),
            Column("decoupled", "published decoupled accuracy (%)", percent(2)),
            Column("reduction", "published MAC reduction, paper's count (%)", percent(0)),
        ),
        published.COUPLINGS,
        f"Published, with the reductions that the supplement prints beside. {published.FTWT}.",
    )
    figure = Drawing(
        _figure(found),
        "Measured. Right is cheaper, up is better. Filled: exact MACs, gates counted; hollow: "
        "the paper's count.",
        "Accuracy over MAC reduction of joint and decoupled runs",
    )
    return figure, measured, theirs


def _figure(found: Couplings) -> Figure:
    title = "Joint against decoupled"
    with drawing.single_plot(
        4.0, x=drawing.REDUCTION_LABEL, y="accuracy (%)", title=title, margins=(0.1, 0.1)
    ) as (figure, axes):
        lines: dict[tuple[str, str], list[Coupled]] = {}
        for one in found.runs:
            lines.setdefault((one.network, one.coupling), []).append(one)
        for (network, coupling), runs in lines.items():
            joint = coupling == "joint"
            colour, marker = (drawing.VERMILION, "s") if joint else (drawing.BLUE, "o")
            accuracy = [100 * one.accuracy for one in runs]
            for cuts, face, style, kind in (
                ([100 * one.reduction_exact for one in runs], colour, "-", "exact MACs"),
                ([100 * one.reduction_paper for one in runs], "white", ":", "paper's count"),
            ):
                axes.plot(
                    cuts, accuracy, marker, linestyle=style, linewidth=1.2, color=colour,
                    markerfacecolor=face, label=f"{network} {coupling}, {kind}",
                )  # fmt: skip
    return figure


ITEM = Item(
    "table3",
    "Table 3: joint against decoupled",
    "Decoupled gates learn from the network and leave it alone; joint ones also change it. The "
    "paper finds decoupled training better at equal reduction.",
    _train,
    _measure,
    _show,
    Couplings.to_json,
)
