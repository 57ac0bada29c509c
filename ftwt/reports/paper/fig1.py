"""Figure 1: accuracy gap over MAC reduction, gated networks against narrower plain ones."""

from dataclasses import asdict, dataclass
from typing import Any

from ftwt.errors import FtwtError
from ftwt.reports import drawing
from ftwt.reports.columns import EXACT, PAPER
from ftwt.reports.drawing import Axes, Figure
from ftwt.reports.paper import published
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.published import PublishedPoint
from ftwt.reports.paper.runs import RecordedRun
from ftwt.reports.paper.study import Study, without_data
from ftwt.tables import Column, Table, percent, points

# Below so many times the accuracy of guessing, a network has learned little.
_LEARNED = 2


@dataclass(frozen=True)
class Rival:
    """A gated network or a narrower plain one; all are fractions.

    `gap` is the accuracy lost against the full plain network, below zero is a gain.
    """

    name: str
    run: str
    gated: bool
    accuracy: float
    gap: float
    reduction_exact: float
    reduction_paper: float


@dataclass(frozen=True)
class Panel:
    """One network with its rivals; `accuracy` is the plain network's, `chance` that of guessing."""

    network: str
    accuracy: float
    chance: float
    dense_macs: int
    rivals: tuple[Rival, ...]
    published: tuple[PublishedPoint, ...]


@dataclass(frozen=True)
class Gaps:
    """All networks."""

    panels: tuple[Panel, ...]


def _train(study: Study) -> None:
    """Each family's network, plain and gated at each mass, and its narrower ones."""
    for family in study.scale.families:
        for network in family.narrower:
            study.dense(network, family=True)
        for mass in study.scale.family_masses:
            study.by_mass(mass, family.network)


def _measure(study: Study) -> Gaps:
    """Compare each network that has gated runs with them and with narrower networks.

    Raises:
        FtwtError: no run has gates.
    """
    gated: dict[str, list[RecordedRun]] = {}
    for run in study.runs:
        if run.gated is not None:
            gated.setdefault(run.network, []).append(run)
    wanted = {family.network for family in study.scale.families}
    # A study of its own trains other networks for other figures.
    networks = [name for name in gated if not (wanted & set(gated)) or name in wanted]
    if not networks:
        raise FtwtError("paper: fig1 needs a run with gates; give one, and narrower plain ones")
    return Gaps(tuple(_panel(study, name, gated[name]) for name in networks))


def _panel(study: Study, network: str, runs: list[RecordedRun]) -> Panel:
    stem = network.partition("-x")[0]
    plain = study.start_accuracy(runs[0])
    dense_macs = study.tested(runs[0]).dense_macs
    rivals = [_gated(study, run) for run in runs]
    for run in study.runs:
        if run.how == "plain" and run.network.partition("-x")[0] == stem:
            narrower = study.tested(run)
            cut = 1 - narrower.dense_macs / dense_macs
            if cut > 0:
                gap = plain - narrower.accuracy
                name = f"plain {without_data(run.network)}"
                rivals.append(Rival(name, run.name, False, narrower.accuracy, gap, cut, cut))
    theirs = published.POINTS.get(without_data(stem), ())
    chance = 1 / len(study.dataset.classes)
    return Panel(without_data(network), plain, chance, dense_macs, tuple(rivals), theirs)


def _gated(study: Study, run: RecordedRun) -> Rival:
    assert run.gated is not None
    seen = study.tested(run)
    gap = study.start_accuracy(run) - seen.accuracy
    cuts = seen.reduction_exact, seen.reduction_paper
    name = f"gates, {run.how}, {run.gated.pruning.coupling}"
    return Rival(name, run.name, True, seen.accuracy, gap, *cuts)


def _show(found: Gaps) -> tuple[Table[Any] | Drawing, ...]:
    """The figure, a table of what was measured, and one of what was published."""
    measured = Table(
        (
            Column("network", "network"),
            Column("name", "pruned how"),
            Column("accuracy", "accuracy (%)", percent(2)),
            Column("gap", "accuracy gap (points)", points),
            EXACT,
            PAPER,
            Column("run", "run"),
        ),
        [{"network": one.network} | asdict(rival) for one in found.panels for rival in one.rivals],
        "Measured on test images. The gap is what is lost against the plain network; below zero "
        "is a gain. A narrower plain network has no gates, so both counts agree.",
    )
    figure = Drawing(
        _figure(found),
        "Right is cheaper, down is better. Filled: exact MACs, gates counted; hollow: the "
        "paper's count. Crosses are published, in their own count, on CIFAR-10; they are other "
        f"trainings on other data than the rest. {_untaught(found)}{published.LEFT_OUT}",
        "Accuracy gap over MAC reduction by network",
    )
    rows = [
        {"network": one.network} | point.to_json()
        for one in found.panels
        for point in one.published
    ]
    if not rows:
        return figure, measured
    theirs = Table(
        (
            Column("network", "beside the measured"),
            Column("method", "method"),
            Column("gap", "published gap (points)", points),
            Column("reduction", "published MAC reduction, own count (%)", percent(0)),
            Column("source", "source"),
        ),
        rows,
        f"Published, on CIFAR-10, for the network at its full width. {published.LEFT_OUT}",
        suffix="published",
    )
    return figure, measured, theirs


def _untaught(found: Gaps) -> str:
    """Names plain networks that learned so little that nothing can be lost."""
    names = [one.network for one in found.panels if one.accuracy < _LEARNED * one.chance]
    if not names:
        return ""
    guess = ", ".join(sorted({f"{100 * one.chance:g} %" for one in found.panels}))
    return (
        f"Trained so briefly, {' and '.join(names)} did little better than guessing ({guess}): "
        "gaps to it mean nothing. "
    )


def _figure(found: Gaps) -> Figure:
    with drawing.style():
        figure = drawing.new_figure(drawing.WIDTH_INCHES, 1.3 + 2.7 * len(found.panels))
        grid = figure.subplots(len(found.panels), 1, squeeze=False)
        for axes, panel in zip(grid[:, 0], found.panels, strict=True):
            _draw(axes, panel)
        grid[-1, 0].set_xlabel(drawing.REDUCTION_LABEL)
        _legend(figure)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    axes.axhline(0, color=drawing.GREY, linewidth=1.2, linestyle=(0, (6, 3)))
    for rival in panel.rivals:
        colour = drawing.BLUE if rival.gated else drawing.ORANGE
        marker = "o" if rival.gated else "s"
        cuts = 100 * rival.reduction_exact, 100 * rival.reduction_paper
        gap = 100 * rival.gap
        axes.plot(cuts, [gap, gap], color=colour, linewidth=1)
        kind = "gates" if rival.gated else "narrower plain network"
        if rival.gated:
            axes.plot(cuts[1], gap, marker, color=colour, markerfacecolor="white",
                      linestyle="none", label=f"{kind}, paper's count")  # fmt: skip
        axes.plot(cuts[0], gap, marker, color=colour, linestyle="none",
                  label=f"{kind}, exact MACs")  # fmt: skip
    for point in panel.published:
        ours = point.method.startswith("FTWT")
        axes.plot(
            100 * point.reduction, 100 * point.gap, "x" if ours else "+",
            color=drawing.VERMILION if ours else drawing.INK, markersize=8, markeredgewidth=1.6,
            linestyle="none",
            label=f"published {point.method.partition(',')[0]}, own count",
        )  # fmt: skip
    axes.set_ylabel("accuracy gap (points)")
    axes.set_title(f"{panel.network} (plain: {100 * panel.accuracy:.1f} %)")
    axes.grid(visible=True)
    axes.margins(0.08, 0.15)
    # Gates that let everything run cost more than they save.
    lowest = min((100 * rival.reduction_exact for rival in panel.rivals), default=0)
    axes.set_xlim(min(0, lowest - 4), 100)


def _legend(figure: Figure) -> None:
    """One entry for each kind of point, whatever the number of panels."""
    entries = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside lower left", ncols=2, fontsize=8)


ITEM = Item(
    "fig1",
    "Figure 1: gates against narrower networks",
    "Is it better to let a network leave out filters image by image, or to use a narrower one? "
    "Each gated network starts from the plain one that it is compared with.",
    _train,
    _measure,
    _show,
)
