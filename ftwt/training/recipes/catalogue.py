"""Recipes by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ftwt.backbones import networks
from ftwt.errors import FtwtError
from ftwt.io.user_code import is_file, known_network
from ftwt.training.recipes import best, general, imagenet, paper, short
from ftwt.training.recipes.files import chosen, from_file
from ftwt.training.recipes.recipe import Overrides, Recipe

Make = Callable[[str, Overrides], Recipe]


@dataclass(frozen=True)
class Entry:
    """A recipe's line in the catalogue: its network, and how to make it dense and dynamic.

    `published` are the masses, decoupled and joint, of a result that the paper publishes; the
    recipe then starts with these instead of its own.
    """

    network: str
    dense: Make
    dynamic: Make
    published: tuple[float, float] | None = None

    @property
    def variant(self) -> str:
        """What it is, in a line: the first of the dynamic training's docstring."""
        return (self.dynamic.__doc__ or "").strip().splitlines()[0]


_CIFAR = (
    "resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "vgg16_bn",
    "mobilenet_v1", "mobilenet_v1-x0.75", "mobilenet_v1-x0.5", "mobilenet_v1-x0.25",
    "mobilenet_v2", "mobilenet_v2-x0.5", "mobilenet_v2-x0.25",
)  # fmt: skip
_IMAGENET = ("resnet18", "resnet34", "resnet50", "mobilenet_v1", "mobilenet_v2")
# Heatmap masses of the paper's tables, decoupled and joint (FTWT, arXiv 2110.08232); the published
# joint results on ImageNet are at the decoupled ones' masses.
_PUBLISHED = {
    "cifar10-vgg16_bn": (0.92, 0.92),
    "cifar10-resnet56": (0.80, 0.88),
    "cifar10-mobilenet_v1": (1.0, 1.0),
    "imagenet-resnet18": (0.91, 0.91),
    "imagenet-resnet34": (0.95, 0.95),
    "imagenet-mobilenet_v1": (1.0, 1.0),
}


def _catalogue() -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}

    def add(name: str, variant: str, dense: Make, dynamic: Make) -> None:
        # A few epochs make nothing that compares with published results.
        published = None if variant in ("-short", "-best") else _PUBLISHED.get(name)
        found[name + variant] = Entry(name, dense, dynamic, published)

    for name in (f"{data}-{model}" for data in ("cifar10", "cifar100") for model in _CIFAR):
        if "mobilenet_v2" in name:
            add(name, "", paper.cifar_cosine_dense, paper.cifar_cosine_dynamic)
        else:
            add(name, "", paper.cifar_dense, paper.cifar_dynamic)
        add(name, "-finetune", paper.cifar_finetune_dense, paper.cifar_finetune_dynamic)
        add(name, "-short", short.short_dense, short.short_dynamic)
        add(name, "-best", best.best_dense, best.best)
    for name in (f"imagenet-{model}" for model in _IMAGENET):
        if "mobilenet" in name:
            add(name, "", imagenet.imagenet_mobile_dense, imagenet.imagenet_mobile_dynamic)
        else:
            add(name, "", imagenet.imagenet_dense, imagenet.imagenet_dynamic)
        add(name, "-finetune", imagenet.imagenet_finetune_dense, imagenet.imagenet_finetune_dynamic)
    # The demo's: a CIFAR network on images that ftwt draws.
    found["shapes-resnet8"] = Entry("cifar10-resnet8", short.shapes_dense, short.shapes_dynamic)
    return MappingProxyType(found)


CATALOGUE: Mapping[str, Entry] = _catalogue()


def recipe(name: str, overrides: Overrides, *, dense: bool = False) -> Recipe:
    """Make the recipe `name`.

    Args:
        name: of the catalogue; or a Python file that defines `recipe`; or a network,
            `torchvision:NAME`, `timm:NAME` or `my_module:factory`, for general fine-tuning.
        overrides: instead of the recipe's own.
        dense: for the plain network.

    Raises:
        FtwtError: no recipe of that name; says which are the nearest. Or the file does not run.
    """
    if is_file(name):
        return chosen(from_file(Path(name)), overrides, dense=dense, name=name)
    entry = find(name)
    if dense:
        return entry.dense(entry.network, overrides)
    return entry.dynamic(entry.network, at_published_mass(entry, overrides))


def find(name: str) -> Entry:
    """The entry of that name, or FtwtError with the nearest names."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    if ":" in name:
        network = known_network(name)
        networks.check_known(network)
        return Entry(network, general.general_dense, general.general_dynamic)
    guess = networks.meant(name, CATALOGUE, cutoff=0.5)
    raise FtwtError(
        f"recipe: {name!r} is unknown;{guess} `ftwt recipes` lists all {len(CATALOGUE)}; "
        "file.py, torchvision:NAME, timm:NAME, module:factory work"
    )


def at_published_mass(entry: Entry, overrides: Overrides) -> Overrides:
    """The overrides with the published mass, where there is one and none was chosen."""
    if overrides.mass is not None or entry.published is None:
        return overrides
    decoupled, joint = entry.published
    return replace(overrides, mass=decoupled if overrides.coupling == "decoupled" else joint)
