"""Recipes in files of one's own."""

import copy
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ftwt.errors import FtwtError
from ftwt.io import registry
from ftwt.io.user_code import import_file
from ftwt.training.phases import Phase
from ftwt.training.recipes.recipe import Overrides, Recipe


def from_file(path: Path) -> Recipe:
    """What a Python file calls `recipe`; the file is run once in a process.

    Raises:
        FtwtError: the file does not run, or its `recipe` is missing or none.
    """
    module = import_file(path, "recipe")
    made: Any = getattr(module, "recipe", None)
    if not isinstance(made, Recipe):
        came = f"its `recipe` is a {type(made).__name__}" if made is not None else "it has none"
        raise FtwtError(
            f"recipe: {path} should define `recipe`, a training.Recipe, and {came}; "
            "`ftwt recipes NAME --source` prints such a file"
        )
    if isinstance(made.network, nn.Module):
        return replace(made, network=_registered(module.__name__, made.network))
    return made


def _registered(module: str, network: nn.Module) -> str:
    """The name of a network itself that a file made: whoever runs the file can build it again."""

    def build() -> nn.Module:
        return copy.deepcopy(network)

    build.__module__, build.__qualname__ = module, "recipe.network"
    name = registry.name_of(build)
    if name not in registry.registered():
        registry.register(build)
    return name


def chosen(made: Recipe, overrides: Overrides, *, dense: bool, name: str) -> Recipe:
    """A recipe with what was chosen instead of its own.

    Raises:
        FtwtError: a choice that only the recipe itself can make, or that it has no place for.
    """
    untouched = Overrides(mass=overrides.mass, epochs=overrides.epochs, seed=overrides.seed)
    if overrides != untouched:
        raise FtwtError(
            f"recipe: coupling, normalize, distill and target_source are what {name} says; change "
            "them there"
        )
    if dense:
        made = _dense(made)
    if overrides.mass is not None:
        made = _with_mass(made, overrides.mass, name)
    settings = made.settings
    if overrides.epochs is not None:
        settings = replace(settings, phases=_shortened(settings.phases, overrides.epochs, name))
    if overrides.seed is not None:
        settings = replace(settings, seed=overrides.seed)
    return replace(made, settings=settings)


def _dense(made: Recipe) -> Recipe:
    """The plain network, for as many epochs."""
    epochs = sum(phase.epochs for phase in made.settings.phases)
    settings = replace(made.settings, phases=(Phase("dense", epochs),), gates=None)
    objective = made.objective.without_gates()
    return replace(made, settings=settings, objective=objective, pruning=None, escalation=None)


def _with_mass(made: Recipe, mass: float, name: str) -> Recipe:
    target: Any = None if made.pruning is None else made.pruning.target
    fits = is_dataclass(target) and not isinstance(target, type) and hasattr(target, "mass")
    if made.pruning is None or not fits:
        raise FtwtError(
            f"recipe: mass={mass:g} was chosen, and {name} has no target with a mass; leave it out"
        )
    with_mass: Any = replace(target, mass=mass)
    return replace(made, pruning=replace(made.pruning, target=with_mass))


def _shortened(phases: tuple[Phase, ...], epochs: int, name: str) -> tuple[Phase, ...]:
    """The same phases over another number of epochs, each in its share."""
    total, before, done = sum(phase.epochs for phase in phases), 0, 0
    if epochs < len(phases):
        raise FtwtError(
            f"recipe: epochs={epochs} is fewer than the {len(phases)} phases of {name}; give more"
        )
    found = []
    for left, phase in zip(range(len(phases) - 1, -1, -1), phases, strict=True):
        before += phase.epochs
        end = min(max(done + 1, round(epochs * before / total)), epochs - left)
        found.append(replace(phase, epochs=end - done))
        done = end
    return tuple(found)
