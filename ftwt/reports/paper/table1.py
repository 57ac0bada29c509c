"""Table 1: compute hours by network and data set, from the runs' records."""

from dataclasses import asdict, dataclass
from typing import Any

from ftwt.reports import drawing
from ftwt.reports.drawing import Figure
from ftwt.reports.paper import published
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.study import Study, without_data
from ftwt.tables import Column, Table, count, fixed


@dataclass(frozen=True)
class Cost:
    """What the trainings of one network on one data set took, in hours; `images` are passes."""

    network: str
    data: str
    device: str
    threads: int
    dense_runs: int
    gated_runs: int
    images: int
    dense_hours: float
    gated_hours: float


@dataclass(frozen=True)
class Hours:
    """All networks."""

    costs: tuple[Cost, ...]

    def to_json(self) -> dict[str, Any]:
        """Measured costs, and the published ones."""
        return asdict(self) | {"published_hours": [list(row) for row in published.HOURS]}


def _train(study: Study) -> None:
    """One plain network and one gated one, unless others were trained already."""
    if not study.runs:
        study.by_mass(study.scale.masses[0])


def _measure(study: Study) -> Hours:
    """Add up the records' hours by network, data, device and threads."""
    groups: dict[tuple[str, str, str, int], list[dict[str, Any]]] = {}
    for run in study.runs:
        record = run.record
        key = run.network, record["data"]["name"], record["device"], record["threads"]
        groups.setdefault(key, []).append(record)
    costs = []
    for (network, data, device, threads), records in groups.items():
        plain = [one for one in records if one["specification"]["pruning"] is None]
        gated = [one for one in records if one["specification"]["pruning"] is not None]
        passes = sum(one["epochs"] * one["data"]["train_images"] for one in records)
        hours = (sum(one["hours"] for one in plain), sum(one["hours"] for one in gated))
        counts = len(plain), len(gated)
        costs.append(Cost(without_data(network), data, device, threads, *counts, passes, *hours))
    return Hours(tuple(costs))


def _show(found: Hours) -> tuple[Table[Any] | Drawing, ...]:
    """Tables of measured and of published hours, and bars of the measured ones."""
    rows = [asdict(cost) for cost in found.costs]
    measured = Table(
        (
            Column("network", "network"),
            Column("data", "data"),
            Column("dense_runs", "plain trainings", count),
            Column("gated_runs", "pruned trainings", count),
            Column("images", "images seen in training", count),
            Column("dense_hours", "plain, hours", fixed(3)),
            Column("gated_hours", "pruned, hours", fixed(3)),
            Column("threads", "CPU threads", count),
            Column("device", "device"),
        ),
        rows,
        "Measured: wall-clock hours of all trainings of a network, as their records say; a "
        "machine that does other work meanwhile makes them longer.",
    )
    theirs = published.published_table(
        (
            Column("network", "network"),
            Column("data", "data"),
            Column("hours", "published, hours", fixed(1)),
        ),
        published.HOURS,
        f"Published: hours on four V100 GPUs. {published.FTWT}.",
    )
    caption = "Measured hours of all trainings; those of table 1 above."
    alt = "Hours of training by network"
    return Drawing(_figure(found), caption, alt), measured, theirs


def _figure(found: Hours) -> Figure:
    height = 1.6 + 0.42 * len(found.costs)
    with drawing.single_plot(
        height, x="training (hours, measured)", title="What training took", grid="x"
    ) as (figure, axes):
        places = list(range(len(found.costs)))[::-1]
        plain = [cost.dense_hours for cost in found.costs]
        pruned = [cost.gated_hours for cost in found.costs]
        axes.barh(places, plain, color=drawing.PALE, label="plain network")
        axes.barh(places, pruned, left=plain, color=drawing.BLUE, label="pruned networks")
        axes.set_yticks(places, [cost.network for cost in found.costs])
    return figure


ITEM = Item(
    "table1",
    "Table 1: what training took",
    "Compute hours by network and data set, read from the records of the trainings that this "
    "page is made of.",
    _train,
    _measure,
    _show,
    Hours.to_json,
)
