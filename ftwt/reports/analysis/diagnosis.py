"""What a diagnosis found, and one verdict."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ftwt.tables import points

# Differences of accuracy that matter, beyond what chance makes of them.
_MATTERS = 0.002
_DEVIATIONS = 3.0


@dataclass(frozen=True)
class Control:
    """The same network under other masks or decisions: accuracy, mean exact MACs.

    `deviation` is the standard deviation of the difference in accuracy, over images.
    """

    accuracy: float
    macs: float
    deviation: float


@dataclass(frozen=True)
class SettingShare:
    """A setting of an escalating network: what it does alone, and for how many it answers."""

    accuracy: float
    macs: float
    share: float


class DecidedBy(NamedTuple):
    """A line of a table: who decides, accuracy, mean exact MACs."""

    decided_by: str
    accuracy: float
    macs: float


@dataclass(frozen=True)
class Dynamism:
    """How much the image decides; accuracies and shares are fractions, MACs exact, per image.

    Of a gated network: `shuffled` gives each image the masks of another one, of the whole set,
    `shuffled_at_cost` those of one of about its own cost. Both cost exactly the same on average.
    `static`: one set of masks for all images at no more MACs, without training.

    Of an escalating network: `shuffled` lets each image go as far as another one did, on average
    over all ways to draw that. `settings` are asked alone. Its filters are not looked at.
    """

    images: int
    accuracy: float
    macs: float
    dense_macs: int
    deviation_macs: float
    macs_right: float | None
    macs_wrong: float | None
    filters: int
    filters_that_depend: int
    shuffled: Control
    shuffled_at_cost: Control | None
    static: Control | None
    settings: tuple[SettingShare, ...] = ()

    @property
    def share_that_depends(self) -> float:
        """Share of the filters that run for 2 to 98 % of the images."""
        return self.filters_that_depend / self.filters if self.filters else 0.0

    @property
    def verdict(self) -> str:
        """What follows, in one sentence."""
        return _verdict_of_escalation(self) if self.settings else _verdict_of_gates(self)

    def loss(self, control: Control) -> float:
        """How much accuracy a control costs."""
        return self.accuracy - control.accuracy

    def falls(self, control: Control) -> bool:
        """Whether accuracy falls, by an amount that matters and is no chance."""
        return self.loss(control) > max(_MATTERS, _DEVIATIONS * control.deviation)

    @property
    def rows(self) -> tuple[DecidedBy, ...]:
        """The network itself and what it is compared with, for a table."""
        controls = (
            ("another image", self.shuffled),
            ("another image of about the same cost", self.shuffled_at_cost),
            ("nothing: one set of masks for all, not trained for it", self.static),
        )
        rows = [DecidedBy("the image", self.accuracy, self.macs)]
        rows += [
            DecidedBy(label, one.accuracy, one.macs) for label, one in controls if one is not None
        ]
        for place, one in enumerate(self.settings):
            label = f"nothing: setting {place} alone, which answers {100 * one.share:.0f} %"
            rows.append(DecidedBy(label, one.accuracy, one.macs))
        return tuple(rows)

    def to_json(self) -> dict[str, Any]:
        """All fields, rows, share and verdict as plain numbers, strings, lists and dicts."""
        return asdict(self) | {
            "share_that_depends": self.share_that_depends,
            "rows": [row._asdict() for row in self.rows],
            "verdict": self.verdict,
        }


def _verdict_of_gates(found: Dynamism) -> str:
    assert found.shuffled_at_cost is not None
    assert found.static is not None
    share = f"{100 * found.share_that_depends:.0f} % of the filters depend on the image"
    lost = f"{100 * found.loss(found.shuffled):.1f} points"
    unsure = _DEVIATIONS * found.shuffled.deviation
    if not found.filters_that_depend:
        return f"Static: {share}, every other one runs for all images or for none."
    if found.falls(found.shuffled_at_cost):
        return (
            f"Dynamic: {share}, and with masks of other images of the same cost accuracy falls by "
            f"{100 * found.loss(found.shuffled_at_cost):.1f} points{_against_static(found)}."
        )
    if found.falls(found.shuffled):
        return (
            f"Dynamic in amount alone: {share}, with masks of other images accuracy falls by "
            f"{lost}, but not if these cost the same{_against_static(found)}."
        )
    if unsure > 10 * _MATTERS:
        return (
            f"Undecided: {share}, but on {found.images:,} images a difference below "
            f"{100 * unsure:.1f} points cannot be told from chance; give more images."
        )
    return (
        f"Static in effect: {share}, but with masks of other images accuracy changes by "
        f"{points(-found.loss(found.shuffled), 1)} points, so the masks are not about the image."
    )


def _against_static(found: Dynamism) -> str:
    assert found.static is not None
    if found.loss(found.static) > 0:
        return ""
    return "; yet one set of masks for all images does as well at the same MACs"


def _verdict_of_escalation(found: Dynamism) -> str:
    on = 1 - found.settings[0].share
    lost = found.loss(found.shuffled)
    if on in (0, 1):
        which = "goes" if on else "stops"
        where = "on from the first setting" if on else "at the first setting"
        return f"Static: every image {which} {where}."
    if found.falls(found.shuffled):
        return (
            f"Dynamic: {100 * on:.0f} % of the images go on, and with as many drawn at random "
            f"accuracy falls by {100 * lost:.1f} points."
        )
    return (
        f"Static in effect: {100 * on:.0f} % of the images go on, but with as many drawn at random "
        f"accuracy changes by {points(-lost, 1)} points, so the signal does not tell who needs it."
    )
