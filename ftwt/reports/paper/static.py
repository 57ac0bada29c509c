"""Static uniform pruning at the same exact MACs, against top-k and against heatmap mass."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates import Oracle
from ftwt.reports import drawing
from ftwt.reports.analysis.equal_cost import oracle_top_k, static_uniform
from ftwt.reports.columns import ACCURACY, EXACT, PAPER
from ftwt.reports.drawing import Axes, Figure
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.runs import RecordedRun
from ftwt.reports.paper.study import Study, without_data
from ftwt.tables import Column, Table, count
from ftwt.targets import HeatmapMass, Target
from ftwt.training.activity import Activity, activity
from ftwt.training.evaluation import Evaluation, evaluate

_ORACLE_MASSES = (0.95, 0.9, 0.8, 0.7)
_STATIC, _TOP_K, _MASS = "static, uniform", "top-k", "heatmap mass"


@dataclass(frozen=True)
class Pruned:
    """A network pruned in one way; accuracy and reductions are fractions."""

    way: str
    trained: bool
    how: str
    run: str | None
    accuracy: float
    macs: float
    reduction_exact: float
    reduction_paper: float


@dataclass(frozen=True)
class Ways:
    """All of them, with the plain network's accuracy."""

    network: str
    accuracy: float
    rows: tuple[Pruned, ...]


def _train(study: Study) -> None:
    """A run by mass, and static and top-k runs brought to what that run costs, exactly counted."""
    network, mass = study.scale.network, study.scale.masses[0]
    run = study.by_mass(mass)
    assert run.gated is not None
    # By held-out images: what the test images show decides nothing.
    seen = activity(run.gated, study.validation)
    plain = run.start()
    # Static masks need no gates, so at the same exact MACs they keep more filters.
    fixed = static_uniform(plain, seen.mean_macs, example=study.example)
    study.gated(network, Pruning(gate=fixed), f"static-as-mass{mass:g}")
    gates = sum(layer.mean_gate_macs for layer in seen.layers)
    macs = seen.mean_macs - gates
    top_k = oracle_top_k(plain, macs, study.validation, example=study.example)
    study.gated(network, Pruning(target=top_k), f"top-k-as-mass{mass:g}")


def _measure(study: Study) -> Ways:
    """Compare all three on the plain network that the first gated run started from, and trained.

    Raises:
        FtwtError: no run has gates.
    """
    main, _ = study.main()
    plain, network = main.start(), without_data(main.network)
    rows = [row for mass in _ORACLE_MASSES for row in _untrained(study, plain, mass)]
    for run in study.runs:
        way = _way(run)
        if run.network == main.network and way is not None:
            rows.append(_row(way, run.how, study.tested(run), run.name))
    return Ways(network, study.start_accuracy(main), tuple(rows))


def _untrained(study: Study, plain: nn.Module, mass: float) -> list[Pruned]:
    """An oracle by mass, and the two others brought to what it costs on held-out images."""
    held = study.validation

    def oracle(target: Target) -> Gated:
        return attach(plain, Pruning(gate=Oracle(), target=target), example=study.example)

    macs = evaluate(oracle(HeatmapMass(mass)), held).macs
    top_k = oracle_top_k(plain, macs, held, example=study.example)
    tried = [
        (_MASS, f"r = {mass:g}", oracle(HeatmapMass(mass))),
        (_TOP_K, f"as r = {mass:g}", oracle(top_k)),
    ]
    # There may be fewer MACs than one filter in each layer takes.
    with suppress(FtwtError):
        masks = static_uniform(plain, macs, example=study.example)
        still = attach(plain, Pruning(gate=masks), example=study.example)
        tried.append((_STATIC, f"as r = {mass:g}", still))
    return [_row(way, how, study.measure(model), None) for way, how, model in tried]


def _way(run: RecordedRun) -> str | None:
    if run.static:
        return _STATIC
    if run.gated is None or run.gated.pruning.coupling == "joint":
        return None
    ways = {"mass": _MASS, "fraction": _TOP_K}
    return next((way for name, way in ways.items() if run.amount(name) is not None), None)


def _row(way: str, how: str, seen: Activity | Evaluation, run: str | None) -> Pruned:
    macs = seen.mean_macs if isinstance(seen, Activity) else seen.macs
    cuts = seen.reduction_exact, seen.reduction_paper
    return Pruned(way, run is not None, how, run, seen.accuracy, macs, *cuts)


def _show(found: Ways) -> tuple[Table[Any] | Drawing, ...]:
    """The figure and both tables."""
    columns = (
        Column("way", "pruned by"),
        Column("how", "how"),
        ACCURACY,
        Column("macs", "MACs per image, exact", count),
        EXACT,
        PAPER,
    )
    plain = f"The plain {found.network} reaches {100 * found.accuracy:.2f} %."
    listings = [
        Table((*columns, *own), [asdict(row) for row in rows], f"{text} {plain}", suffix)
        for rows, own, text, suffix in (
            ([row for row in found.rows if row.trained], (Column("run", "run"),), _TRAINED, ""),
            ([row for row in found.rows if not row.trained], (), _UNTRAINED, "untrained"),
        )
        if rows
    ]
    figure = Drawing(
        _figure(found),
        "Measured on test images. Right is cheaper, up is better; MACs are exact, gates counted. "
        "Lines: without training, where a perfect gate costs nothing. Large marks: trained.",
        "Accuracy over exact MAC reduction of static, top-k and mass pruning",
    )
    return figure, *listings


_TRAINED = (
    "Measured, trained: static and top-k runs were brought to the exact MACs of the run by mass, "
    "by held-out images; what gates then choose decides their own. Static: masks by the L1 norm of "
    "weights, the same share in each layer."
)
_UNTRAINED = (
    "Measured, without training: masks from the plain network, perfect gates for mass and top-k. "
    "Top-k and static were brought to the exact MACs of the mass in their row, by held-out images; "
    "one share for all layers comes near to them only in steps of a narrow layer's filter."
)
_LOOKS = {
    _MASS: (drawing.BLUE, "o"),
    _TOP_K: (drawing.GREEN, "^"),
    _STATIC: (drawing.VERMILION, "s"),
}


def _figure(found: Ways) -> Figure:
    title = f"Three ways to prune {found.network}"
    with drawing.single_plot(
        4.4, x=drawing.EXACT_REDUCTION_LABEL, y="accuracy (%)", title=title, margins=(0.06, 0.06)
    ) as (figure, axes):
        drawing.line_of_plain(axes, found.accuracy)
        for way, (colour, marker) in _LOOKS.items():
            _draw(axes, [row for row in found.rows if row.way == way], way, colour, marker)
    return figure


def _draw(axes: Axes, rows: list[Pruned], way: str, colour: str, marker: str) -> None:
    for trained, style, size, label in (
        (False, "-", 4, f"{way}, untrained"),
        (True, "none", 11, f"{way}, trained"),
    ):
        chosen = [row for row in rows if row.trained == trained]
        if chosen:
            x = [100 * row.reduction_exact for row in chosen]
            y = [100 * row.accuracy for row in chosen]
            axes.plot(
                x, y, marker, color=colour, linestyle=style, markersize=size, linewidth=1.2,
                markerfacecolor="white" if trained else colour, markeredgewidth=1.6, label=label,
            )  # fmt: skip


ITEM = Item(
    "static",
    "Static pruning at the same cost",
    "Does choosing filters by image pay? Static uniform pruning keeps the same filters for every "
    "image and the same share in each layer; top-k keeps the same share but chooses which by "
    "image; heatmap mass chooses both. All three are compared at the same exact MACs.",
    _train,
    _measure,
    _show,
)
