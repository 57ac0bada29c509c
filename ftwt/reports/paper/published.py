"""Published numbers, each with its source; shown beside measured ones, never among them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ftwt.tables import Column, Table

FTWT = "FTWT, CVPR 2022 (arXiv 2110.08232)"
FTWT_FIGURE = f"{FTWT}, supplement, read off a figure"
# The pruning papers' own figures were not at hand; this table quotes accuracies and speed-up.
QUOTED = "as quoted in Automatic Complementary Separation Pruning, table 1; 1 - 1 / speed-up"


@dataclass(frozen=True)
class PublishedPoint:
    """CIFAR-10: accuracy lost against the plain network, and MAC reduction; fractions.

    A gap below zero is a gain. Reductions are in the paper's convention or in that of their own
    source, never exact.
    """

    method: str
    gap: float
    reduction: float
    source: str

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers and strings."""
        return asdict(self)


def _ftwt(*pairs: tuple[float, float]) -> tuple[PublishedPoint, ...]:
    return tuple(PublishedPoint("FTWT", gap / 100, cut / 100, FTWT_FIGURE) for gap, cut in pairs)


POINTS: Mapping[str, tuple[PublishedPoint, ...]] = {
    "mobilenet_v1": _ftwt((-0.3, 78), (1.3, 92)),
    "mobilenet_v2": (
        *_ftwt((-0.2, 41), (-0.2, 53), (-0.2, 66), (0.3, 77), (1.2, 87)),
        PublishedPoint("SCOP", 0.0024, 1 - 1 / 1.67, QUOTED),
        PublishedPoint("DCP", -0.0022, 1 - 1 / 1.35, QUOTED),
    ),
    "resnet56": (
        PublishedPoint("FTWT, decoupled", 0.0103, 0.66, FTWT),
        PublishedPoint("FTWT, joint", 0.0138, 0.54, FTWT),
    ),
    "vgg16_bn": (
        PublishedPoint("FTWT, decoupled", 0.0009, 0.56, FTWT),
        PublishedPoint("FTWT, joint", 0.0027, 0.65, FTWT),
        PublishedPoint("FTWT, decoupled", 0.0063, 0.73, FTWT),
        PublishedPoint("FTWT, joint", 0.0117, 0.74, FTWT),
    ),
}
# Network, data, accuracy, MAC reduction in its own count, source. Without the plain network's
# accuracy beside it there is no gap to draw.
EAGLEEYE = ("MobileNetV1", "ImageNet", 0.709, 0.50, "arXiv 2007.02491, abstract")
LEFT_OUT = (
    f"EagleEye is not drawn: its own figure at hand is of {EAGLEEYE[1]} ({EAGLEEYE[0]}, "
    f"{100 * EAGLEEYE[2]:.1f} % with {100 * EAGLEEYE[3]:.0f} % of the operations pruned; "
    f"{EAGLEEYE[4]}) and names no plain accuracy; none for CIFAR-10 could be verified. Nor could "
    "one of SCOP and DCP for MobileNetV1."
)


def published_table(
    columns: tuple[Column, ...], rows: Iterable[tuple[Any, ...]], text: str
) -> Table[Any]:
    """Published rows, which stand in a table of their own."""
    keys = [column.key for column in columns]
    found = [dict(zip(keys, row, strict=True)) for row in rows]
    return Table(columns, found, text, suffix="published")


# Network, data, hours on four V100.
HOURS = (
    ("VGG16", "CIFAR-10", 2.0),
    ("ResNet-56", "CIFAR-10", 8.0),
    ("MobileNet", "CIFAR-10", 3.5),
    ("ResNet-18", "ImageNet", 40.0),
    ("ResNet-34", "ImageNet", 55.5),
    ("MobileNetV1", "ImageNet", 41.0),
)

# Network, accuracy, its deviation, reduction in the paper's convention, its deviation; 3 runs.
SPREADS = (
    ("VGG16-BN", 0.9319, 0.0007, 0.7319, 0.0024),
    ("VGG16-BN", 0.9355, 0.0009, 0.6501, 0.0056),
    ("ResNet-56", 0.9263, 0.0002, 0.6643, 0.0002),
    ("MobileNet", 0.9106, 0.0008, 0.7853, 0.0080),
)

# Network, data, joint accuracy, decoupled accuracy, reduction in the paper's convention as the
# supplement prints it.
COUPLINGS = (
    ("ResNet-34", "ImageNet", 0.7006, 0.7171, 0.52),
    ("ResNet-34", "ImageNet", 0.7152, 0.7279, 0.37),
)
