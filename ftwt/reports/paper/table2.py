"""Table 2: mean and standard deviation over seeds."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from ftwt.errors import FtwtError
from ftwt.reports import drawing
from ftwt.reports.drawing import Figure
from ftwt.reports.paper import published
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.runs import RecordedRun
from ftwt.reports.paper.study import Study, without_data
from ftwt.tables import MINUS, Column, Table, count, percent


@dataclass(frozen=True)
class OverSeeds:
    """Values of like runs, one for each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1); exactly 0 for identical values, None for one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone; all values are fractions."""

    network: str
    how: str
    coupling: str
    seeds: tuple[int, ...]
    accuracy: OverSeeds
    reduction_exact: OverSeeds
    reduction_paper: OverSeeds


@dataclass(frozen=True)
class Seeds:
    """All groups."""

    groups: tuple[Group, ...]

    def to_json(self) -> dict[str, Any]:
        """Each group's values, means and deviations."""
        return {"groups": [asdict(group) | _row(group) for group in self.groups]}


def _train(study: Study) -> None:
    """Each mass with each seed, all from the same plain network."""
    for seed in range(study.scale.seeds):
        for mass in study.scale.masses:
            study.by_mass(mass, seed=seed)


def _measure(study: Study) -> Seeds:
    """Group runs with gates by everything but their seed.

    Raises:
        FtwtError: no two runs are alike but for their seed.
    """
    alike: dict[tuple[Any, ...], list[RecordedRun]] = {}
    for run in study.runs:
        if run.gated is not None:
            alike.setdefault((run.gated.pruning, *run.trained_on), []).append(run)
    groups = tuple(_group(study, runs) for runs in alike.values() if len(runs) > 1)
    if not groups:
        raise FtwtError(
            "paper: table2 needs runs with gates that differ in their seed alone, and among "
            f"{len(study.runs)} runs no two do; train one again with another --seed"
        )
    return Seeds(groups)


def _group(study: Study, runs: list[RecordedRun]) -> Group:
    seen = [study.tested(run) for run in runs]
    assert runs[0].gated is not None
    return Group(
        without_data(runs[0].network),
        runs[0].how,
        runs[0].gated.pruning.coupling,
        tuple(run.seed for run in runs),
        OverSeeds(tuple(one.accuracy for one in seen)),
        OverSeeds(tuple(one.reduction_exact for one in seen)),
        OverSeeds(tuple(one.reduction_paper for one in seen)),
    )


def _row(group: Group) -> dict[str, Any]:
    row: dict[str, Any] = {
        "network": group.network,
        "how": group.how,
        "coupling": group.coupling,
        "runs": len(group.seeds),
    }
    for name in ("accuracy", "reduction_exact", "reduction_paper"):
        spread: OverSeeds = getattr(group, name)
        row |= {f"{name}_mean": spread.mean, f"{name}_std": spread.std}
    return row


_COLUMNS = tuple(
    column
    for name, label in (
        ("accuracy", "accuracy"),
        ("reduction_exact", "MAC reduction, exact"),
        ("reduction_paper", "MAC reduction, paper's count"),
    )
    for column in (
        Column(f"{name}_mean", f"{label}, mean (%)", percent(2)),
        Column(f"{name}_std", "its deviation (points)", percent(2)),
    )
)


def _show(found: Seeds) -> tuple[Table[Any] | Drawing, ...]:
    """The measured table, the published one, and a figure."""
    measured = Table(
        (
            Column("network", "network"),
            Column("how", "pruned how"),
            Column("coupling", "coupling"),
            Column("runs", "runs", count),
            *_COLUMNS,
        ),
        [_row(group) for group in found.groups],
        "Measured on test images. Runs of a row differ in the seed of gates, order and "
        "augmentation; all start from the same plain network. Deviations are sample standard "
        f"deviations (n {MINUS} 1).",
    )
    theirs = published.published_table(
        (
            Column("network", "network"),
            Column("accuracy_mean", "published accuracy, mean (%)", percent(2)),
            Column("accuracy_std", "its deviation (points)", percent(2)),
            Column("reduction_mean", "published MAC reduction, paper's count (%)", percent(2)),
            Column("reduction_std", "its deviation (points)", percent(2)),
        ),
        published.SPREADS,
        f"Published, CIFAR-10, three runs each. {published.FTWT}.",
    )
    figure = Drawing(
        _figure(found),
        "Measured. Each cross is a mean with one deviation in both directions, dots are runs. "
        "MACs are exact, gates counted.",
        "Accuracy over MAC reduction with deviations over seeds",
    )
    return figure, measured, theirs


_COLOURS = (drawing.BLUE, drawing.VERMILION, drawing.GREEN, drawing.ORANGE, drawing.INK)
_MARKERS = ("o", "s", "^", "D", "v")


def _figure(found: Seeds) -> Figure:
    height, title = 3.6 + 0.22 * len(found.groups), "How much seeds matter"
    with drawing.single_plot(
        height, x=drawing.EXACT_REDUCTION_LABEL, y="accuracy (%)", title=title, margins=(0.15, 0.15)
    ) as (figure, axes):
        for place, group in enumerate(found.groups):
            colour, marker = _COLOURS[place % 5], _MARKERS[place % 5]
            x = [100 * value for value in group.reduction_exact.values]
            y = [100 * value for value in group.accuracy.values]
            label = f"{group.network}, {group.how}, {group.coupling}, {len(x)} runs"
            axes.plot(x, y, marker, color=colour, markersize=4, alpha=0.55, linestyle="none")
            axes.errorbar(
                100 * group.reduction_exact.mean, 100 * group.accuracy.mean,
                xerr=100 * (group.reduction_exact.std or 0), yerr=100 * (group.accuracy.std or 0),
                fmt=marker, color=colour, markersize=8, markerfacecolor="white", capsize=3,
                label=label,
            )  # fmt: skip
    return figure


ITEM = Item(
    "table2",
    "Table 2: several seeds",
    "One run can be lucky. The same training with other seeds tells by how much accuracy and "
    "cost differ by chance.",
    _train,
    _measure,
    _show,
    Seeds.to_json,
)
