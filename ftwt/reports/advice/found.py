"""What `advise` found, and what follows from it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ftwt.tables import percent

_whole, _tenths = percent(0, " %"), percent(1, " %")
# Gates that cost more than this share of the network's MACs are worth making cheaper.
_DEAR = 0.05
# With fewer filters that depend on the image, gates decide what fixed masks decide for nothing.
_FEW = 0.2
# Faster by less than this is not told from chance.
_CLEARLY = 1.03


@dataclass(frozen=True)
class Way:
    """One way to save MACs; reductions count what the way itself costs.

    `accuracy` is that of its masks before any training (perfect gates, for gates), None where
    nothing can be said. `ms` is for one image, run by `by`. Where a way does not reach the
    reduction that was asked for, figures are None and `note` says why.
    """

    name: str
    reduction_exact: float | None
    accuracy: float | None
    ms: float | None
    by: str
    note: str = ""


@dataclass(frozen=True)
class OracleSetting:
    """What perfect gates at one heatmap mass would save, on average over images."""

    mass: float
    reduction_exact: float
    reduction_with_gates: float


@dataclass(frozen=True)
class Advice:
    """What is to be gained; fractions, MACs for one image, milliseconds for one image.

    `depends` is the share of filters that perfect gates would run for some images and not for
    others, at the mass that saves what was asked. `unsure` is the share of images for which the
    two likeliest classes are less than 0.5 apart, `may_go_on` the share that the budget lets
    answer twice, and `sure_accuracy` the accuracy of the whole network on the others, the surest.
    The first of `ways` is the network as it is.
    """

    images: int
    asked: float
    dense_macs: int
    gate_macs: int
    dense_accuracy: float
    depends: float
    unsure: float
    may_go_on: float
    sure_accuracy: float
    ways: tuple[Way, ...]
    settings: tuple[OracleSetting, ...]

    @property
    def fastest(self) -> Way | None:
        """The way that is clearly faster than the network as it is; None where none is."""
        dense, *others = self.ways
        timed = [(way.ms, way) for way in others if way.ms is not None]
        if not timed or dense.ms is None:
            return None
        ms, way = min(timed, key=lambda pair: pair[0])
        return way if dense.ms / ms > _CLEARLY else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What follows, a sentence each."""
        return tuple(_notes(self))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**asdict(self), "notes": list(self.notes)}


def _notes(found: Advice) -> Iterator[str]:
    share = found.gate_macs / found.dense_macs
    cheaper = "; gates.ByCost and gates.Bottleneck cost less" if share > _DEAR else ""
    cost = f"{_tenths(share)} of the network's MACs"
    yield f"the gates would cost {cost} with every filter on{cheaper}"
    differ = f"{_whole(found.depends)} of the filters would run for some images and not for others"
    if found.depends < _FEW:
        yield f"{differ}: fixed masks decide nearly the same, and cost nothing"
    else:
        yield f"{differ}, so gates have something to decide"
    room = f"may answer {_whole(found.may_go_on)} of the images twice"
    if found.unsure <= found.may_go_on:
        yield (
            f"a budget for each image {room}, and the network is unsure of {_whole(found.unsure)}: "
            f"there is room; on the surest others it is right for {_tenths(found.sure_accuracy)}"
        )
    else:
        yield (
            f"a budget for each image {room}, but the network is unsure of {_whole(found.unsure)}: "
            "the narrow network has to be right where the whole one hesitates"
        )
    if (fastest := found.fastest) is not None:
        dense = found.ways[0]
        assert dense.ms is not None
        assert fastest.ms is not None
        yield (
            f"the fastest here would be {fastest.name}: {fastest.ms:.2f} ms against "
            f"{dense.ms:.2f} ms of the network as it is ({dense.by})"
        )
    else:
        fewer = f"at {_whole(found.asked)} fewer MACs"
        yield f"{fewer} none is clearly faster here than {found.ways[0].by}"
    yield "accuracies are before training, which moves them far; MACs and milliseconds stay"
