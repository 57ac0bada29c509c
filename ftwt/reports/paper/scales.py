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
class Scale:
    """What a study trains; None takes the recipe's own epochs, or all images.

    The first of `masses` is the run that figures 2 and 3 and the shifted inputs look at.
    `recipe` and `family_recipe` are names of the catalogue; each network is trained by them.
    `family_lr` is that of plain families, where the recipe's own suits its own network alone.
    `few_images` are looked at where many passes are needed: shifted inputs, and bringing other
    ways of pruning to equal cost.
    """

    name: str
    recipe: str
    family_recipe: str
    network: str
    masses: tuple[float, ...]
    seeds: int
    families: tuple[Family, ...]
    family_masses: tuple[float, ...]
    dense_epochs: int | None = None
    gated_epochs: int | None = None
    train_images: int | None = None
    family_dense_epochs: int | None = None
    family_gated_epochs: int | None = None
    family_images: int | None = None
    family_lr: float | None = None
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


_TINY = Scale(
    name="tiny",
    recipe="shapes-resnet8",
    family_recipe="shapes-resnet8",
    network="cifar10-resnet8",
    masses=(0.85,),
    seeds=2,
    families=(Family("cifar10-mobilenet_v1-x0.5", ("cifar10-mobilenet_v1-x0.25",)),),
    family_masses=(0.9,),
    dense_epochs=1,
    gated_epochs=2,
    train_images=300,
    family_dense_epochs=1,
    family_gated_epochs=1,
    family_images=100,
    test_images=100,
    few_images=50,
    map_images=2,
)
_SMOKE = Scale(
    name="smoke",
    recipe="shapes-resnet8",
    family_recipe="shapes-resnet8",
    network="cifar10-resnet8",
    masses=(0.85, 0.7),
    seeds=3,
    families=tuple(Family(f"{one}-x0.5", (f"{one}-x0.25",)) for one in _MOBILE),
    family_masses=(1.0, 0.9),
    dense_epochs=16,
    gated_epochs=4,
    train_images=3000,
    family_dense_epochs=8,
    family_gated_epochs=3,
    family_images=800,
    family_lr=0.05,
)
_SHORT = Scale(
    name="short",
    recipe="cifar10-resnet20-short",
    # One cycle from random weights.
    family_recipe="shapes-resnet8",
    network="cifar10-resnet20",
    masses=(0.85, 0.8),
    seeds=2,
    families=(Family("cifar10-mobilenet_v1-x0.5", ("cifar10-mobilenet_v1-x0.25",)),),
    family_masses=(1.0, 0.9),
    dense_epochs=10,
    gated_epochs=2,
    train_images=15_000,
    family_dense_epochs=5,
    family_gated_epochs=3,
    family_images=10_000,
    family_lr=0.05,
)
_FULL_SHAPES = Scale(
    name="full",
    recipe="shapes-resnet8",
    family_recipe="shapes-resnet8",
    network="cifar10-resnet20",
    masses=(0.85, 0.7),
    seeds=3,
    families=tuple(Family(one, (f"{one}-x0.5", f"{one}-x0.25")) for one in _MOBILE),
    family_masses=(1.0, 0.95, 0.9),
    family_lr=0.05,
)
_FULL = Scale(
    name="full",
    recipe="cifar10-resnet56",
    family_recipe="cifar10-mobilenet_v1",
    network="cifar10-resnet56",
    masses=(0.88, 0.8),
    seeds=3,
    families=tuple(Family(one, (f"{one}-x0.5", f"{one}-x0.25")) for one in _MOBILE),
    family_masses=(1.0, 0.95, 0.9),
    few_images=2000,
)
