"""How large a study is: networks, masses, seeds, epochs and images."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from ftwt.errors import FtwtError


@dataclass(frozen=True)
class Family:
    """A network beside narrower ones of its kind."""

    network: str
    narrower: tuple[str, ...] = ()


@dataclass(frozen=True)
class Effort:
    """How a network is trained: by a recipe of the catalogue, or by less of it.

    None takes the recipe's own epochs, or all images. `dense_lr` is that of plain networks, where
    the recipe's own suits its own network alone.
    """

    recipe: str
    dense_epochs: int | None = None
    gated_epochs: int | None = None
    images: int | None = None
    dense_lr: float | None = None


@dataclass(frozen=True)
class Scale:
    """What a study trains: one network with several masses and seeds, and families.

    The first of `masses` is the run that figures 2 and 3 and the shifted inputs look at.
    `few_images` are looked at where many passes are needed: shifted inputs, and bringing other
    ways of pruning to equal cost.
    """

    name: str
    network: str
    masses: tuple[float, ...]
    seeds: int
    effort: Effort
    families: tuple[Family, ...]
    family_masses: tuple[float, ...]
    family_effort: Effort
    test_images: int | None = None
    few_images: int = 1000
    map_images: int = 4


SCALES: Mapping[str, str] = {
    "tiny": "seconds: checks that everything runs, the values mean nothing",
    "smoke": "minutes: small networks, few epochs",
    "short": "an hour or two on a CPU: ResNet-20 from a given plain one, some of the images",
    "full": "the paper's networks, epochs and three seeds",
}
_MOBILE = ("cifar10-mobilenet_v1", "cifar10-mobilenet_v2")


def scale(name: str, data: str) -> Scale:
    """The scale `name` for a data set.

    Raises:
        FtwtError: no scale of that name.
    """
    match name:
        case "tiny":
            return _TINY
        case "smoke":
            return _SMOKE
        case "short":
            return _SHORT
        case "full":
            return _FULL_SHAPES if data == "shapes" else _FULL
        case _:
            near = difflib.get_close_matches(name, SCALES, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise FtwtError(f"paper: no scale {name!r}; {hint}known are {', '.join(SCALES)}")


_SMALL = "shapes-resnet8"
_ONE_FAMILY = (Family("cifar10-mobilenet_v1-x0.5", ("cifar10-mobilenet_v1-x0.25",)),)
_FAMILIES = tuple(Family(one, (f"{one}-x0.5", f"{one}-x0.25")) for one in _MOBILE)
_TINY = Scale(
    "tiny", "cifar10-resnet8", masses=(0.85,), seeds=2, effort=Effort(_SMALL, 1, 2, 300),
    families=_ONE_FAMILY, family_masses=(0.9,), family_effort=Effort(_SMALL, 1, 1, 100),
    test_images=100, few_images=50, map_images=2,
)  # fmt: skip
_SMOKE = Scale(
    "smoke", "cifar10-resnet8", masses=(0.85, 0.7), seeds=3, effort=Effort(_SMALL, 16, 4, 3000),
    families=tuple(Family(f"{one}-x0.5", (f"{one}-x0.25",)) for one in _MOBILE),
    family_masses=(1.0, 0.9), family_effort=Effort(_SMALL, 8, 3, 800, dense_lr=0.05),
)  # fmt: skip
_SHORT = Scale(
    "short", "cifar10-resnet20", masses=(0.85, 0.8), seeds=2,
    effort=Effort("cifar10-resnet20-short", 10, 2, 15_000),
    # One cycle from random weights.
    families=_ONE_FAMILY, family_masses=(1.0, 0.9),
    family_effort=Effort(_SMALL, 5, 3, 10_000, dense_lr=0.05),
)  # fmt: skip
_FULL_SHAPES = Scale(
    "full", "cifar10-resnet20", masses=(0.85, 0.7), seeds=3, effort=Effort(_SMALL),
    families=_FAMILIES, family_masses=(1.0, 0.95, 0.9),
    family_effort=Effort(_SMALL, dense_lr=0.05),
)  # fmt: skip
_FULL = Scale(
    "full", "cifar10-resnet56", masses=(0.88, 0.8), seeds=3, effort=Effort("cifar10-resnet56"),
    families=_FAMILIES, family_masses=(1.0, 0.95, 0.9),
    family_effort=Effort("cifar10-mobilenet_v1"), few_images=2000,
)  # fmt: skip
