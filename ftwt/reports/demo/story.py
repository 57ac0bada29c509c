"""What the demo's page says first, and last."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Bool, Shaped
from torch import Tensor

from ftwt.reports.analysis.diagnosis import Dynamism
from ftwt.reports.analysis.report import dynamism_table, plot
from ftwt.reports.demo.figures import BudgetPoint, budget_strip, mask_strips
from ftwt.reports.demo.times import DENSE, GATES, NetworkTime
from ftwt.reports.page import Commands, Section
from ftwt.tables import Column, Table, fixed, points

INTRO = """A convolutional network computes every filter of every layer for every image. ftwt \
lets the image decide. Here a small ResNet learned ten kinds of shapes, which ftwt draws itself. \
Then it was made cheaper in two ways: gates that look at a layer's input and choose its filters \
(the method of "Fire Together Wire Together", CVPR 2022), and a narrow network that answers first, \
with the whole one behind it for the images that need it.

Both are asked below whether what they decide depends on the image at all. The gated network went \
on learning from the dense one, so it has trained longer. On so small a network and so short a \
training the figures show how it works, not how far it goes."""
NEXT = (
    "ftwt advise cifar10-resnet20 --data imagefolder:DIR --init WEIGHTS",
    "ftwt train cifar10-resnet20-best --data imagefolder:DIR --init WEIGHTS --reduction 0.5 "
    "--out runs/cheaper",
    "ftwt bench runs/cheaper --data imagefolder:DIR",
)


@dataclass(frozen=True, eq=False)
class Story:
    """What was measured, on test images; `masks` by site are of the images `pixels`."""

    dense_accuracy: float
    pixels: Shaped[Tensor, "B 3 H W"]
    masks: dict[str, Bool[Tensor, "B C"]]
    gates: Dynamism
    shared: Dynamism
    points: Sequence[BudgetPoint]
    times: Sequence[NetworkTime]
    others: float | None


def opening(folder: Path, story: Story) -> tuple[Section, ...]:
    """Masks side by side, the shared budget, and milliseconds."""
    strips = plot(
        folder, "masks", mask_strips(story.pixels, story.masks),
        "A square is a filter. White did not run for this image. Blue ran for all of these images, "
        "vermilion for this one and not for every other.",
        "Rows of squares, one for each filter, beside the images that they ran for",
    )  # fmt: skip
    budgets = plot(
        folder, "budgets", budget_strip(story.points, story.dense_accuracy),
        "The same two sets of weights at four budgets, and the plain network (square): a threshold "
        "says how sure the first answer has to be.",
        "Accuracy of one model at several MAC reductions",
    )  # fmt: skip
    return (
        Section("Gates: which filters run for which image", story.gates.verdict,
                (strips, dynamism_table(story.gates))),
        Section("A budget for each image", story.shared.verdict,
                (budgets, dynamism_table(story.shared))),
        Section("Milliseconds on this machine", _times_text(story), (times_table(story.times),)),
    )  # fmt: skip


def closing() -> tuple[Section, ...]:
    """What to run next."""
    text = (
        "Put a folder with train/CLASS/IMAGE and test/CLASS/IMAGE in place of DIR, and the weights "
        "that your network has in place of WEIGHTS."
    )
    return (Section("Next: your own images", text, (Commands(NEXT),)),)


def story_highlights(story: Story) -> tuple[tuple[str, str], ...]:
    """The numbers to see first: of gates, beside the plain network."""
    change = points(story.gates.accuracy - story.dense_accuracy, 1)
    saved = 1 - story.gates.macs / story.gates.dense_macs
    dense, own = (
        min(one.ms for one in story.times if one.network == name) for name in (DENSE, GATES)
    )
    return (
        (f"{100 * saved:.0f} %", "fewer MACs with gates, all that ran counted"),
        (change, "points of accuracy against the plain network"),
        (f"{own:.2f} ms", "an image with gates on this machine"),
        (f"{dense:.2f} ms", "the plain network, by the fastest engine that is installed"),
    )


def times_table(times: Sequence[NetworkTime]) -> Table[NetworkTime]:
    """A row for each form, the fastest of each network first."""
    order = list(dict.fromkeys(one.network for one in times))
    ranked = sorted(times, key=lambda one: (order.index(one.network), one.ms))
    return Table(
        (Column("network", "network"), Column("by", "run by"), Column("ms", "ms", fixed(2))),
        ranked,
        "One image at a time, mean over images, all forms in turn. Cut: one set of as many filters "
        "for all images, removed beforehand, what static pruning would give.",
    )


def _times_text(story: Story) -> str:
    if story.others is None or story.others < 0.02:
        return ""
    return (
        f"Other programs used {100 * story.others:.0f} % of the processors meanwhile, so these "
        "figures are disturbed."
    )
