"""From a budget to the mass, or the mass for each layer, that meets it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ftwt.budget.families import base_and_amount
from ftwt.budget.profile import (
    Convention,
    Profile,
    check_images,
    check_loader,
    check_reduction,
    dearest,
)
from ftwt.budget.sensitivity import Greedy
from ftwt.errors import FtwtError, check_choice
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.io import specs
from ftwt.targets import PerSite, Target, rule_of, without_gradient
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, check_gated, pairs
from ftwt.training.tasks import LABELLED, Task
from ftwt.training.tasks.batches import moved

# Near enough, as a share of MACs; and passes over the images that it may take to get there.
_NEAR = 0.002
_PASSES = 6
# A result further off than this is not what was asked for.
_FAR = 0.01


@dataclass(frozen=True)
class Solution:
    """A target that meets a budget under an oracle; fractions.

    `predicted` is the reduction with the masks applied and the model's gates counted, and
    `accuracy` that of an oracle with these masks. `one_pass` is what the estimate without applied
    masks says. `amounts` are the masses (or top-k fractions) by site.
    """

    asked: float
    convention: Convention
    predicted: float
    one_pass: float
    accuracy: float
    dense_accuracy: float
    images: int
    amounts: Mapping[str, float]
    target: Target
    pruning: Pruning

    def to_json(self) -> dict[str, Any]:
        """All fields but the pruning, as plain numbers, strings and dicts."""
        names = (
            "asked", "convention", "predicted", "one_pass", "accuracy", "dense_accuracy", "images",
        )  # fmt: skip
        plain = {name: getattr(self, name) for name in names}
        return plain | {"amounts": dict(self.amounts), "target": specs.to_json(self.target)}


def solve(
    model: Gated,
    loader: Loader,
    *,
    reduction: float,
    convention: Convention = "exact",
    per_layer: bool = False,
    sequential: bool = True,
    task: Task = LABELLED,
) -> Solution:
    """Find the mass that saves a share of the MACs under an oracle, without training.

    The target rule is the model's own with another mass (or top-k fraction). A grid of masses is
    estimated in one pass; then the masks are applied, in a few passes more, and the mass is moved
    until the reduction that they give is the one that was asked for; `sequential=False` leaves that
    out, and meets the budget by what the one pass says. Where filters that never fire
    save more than that already, the answer is mass 1.

    Args:
        model: a network with gates, trained or not; it is left as it is.
        loader: gives (images, labels), and can be iterated again and again; some hundreds of
            training images are enough.
        reduction: share of the plain network's MACs to save, in [0, 1), gates counted.
        convention: how MACs are counted.
        per_layer: choose a mass for each site by itself, greedily by how much the loss rises
            where the site loses filters. Takes a forward pass for each of 6 masses and each site,
            over 256 images.
        sequential: meet the budget with the masks of earlier sites applied.
        task: what the network is for; accuracies are then its scores, and the loss is its own.

    Raises:
        FtwtError: the budget is out of reach (says the largest that is not, and which layers
            limit it), the loader is empty, has too few images or can be iterated only once.
    """
    check_gated(model, "solve")
    check_reduction(reduction, "solve")
    check_loader(loader, "solve")
    check_choice("solve", "convention", convention, ("exact", "paper"))
    profile = Profile(model, loader, _base(model.pruning, model.sites), convention, task)
    check_images(profile.images, "solve")
    if reduction > float(profile.curve.max()):
        raise FtwtError(_out_of_reach(profile, reduction, float(profile.curve.max())))
    choose: Callable[[float], dict[str, int]] = (
        Greedy(profile, loader).levels
        if per_layer
        else lambda wanted: profile.uniform(profile.nearest(wanted))
    )
    best = (
        _approach(profile, loader, reduction, choose)
        if sequential
        else _apply(profile, loader, choose(reduction))
    )
    if sequential and best.reduction < reduction - _FAR:
        raise FtwtError(_out_of_reach(profile, reduction, best.reduction))
    rules = {name: profile.rules[level] for name, level in best.levels.items()}
    target: Target = PerSite(rules) if per_layer else next(iter(rules.values()))
    return Solution(
        asked=reduction,
        convention=convention,
        predicted=best.reduction,
        one_pass=profile.reduction(best.levels),
        accuracy=best.accuracy,
        dense_accuracy=profile.dense_accuracy,
        images=profile.images,
        amounts={name: profile.amounts[level] for name, level in best.levels.items()},
        target=target,
        pruning=replace(model.pruning, target=target),
    )


class _Try(NamedTuple):
    levels: dict[str, int]
    reduction: float
    accuracy: float


def _approach(
    profile: Profile,
    loader: Loader,
    reduction: float,
    choose: Callable[[float], dict[str, int]],
) -> _Try:
    """Apply masks, ask for more or less by what is missing, and keep the nearest."""
    wanted = reduction
    best: _Try | None = None
    for _ in range(_PASSES):
        levels = choose(wanted)
        if best is not None and levels == best.levels:
            break
        now = _apply(profile, loader, levels)
        if best is None or abs(now.reduction - reduction) < abs(best.reduction - reduction):
            best = now
        wanted += reduction - now.reduction
        at_the_top = levels == profile.uniform(profile.top_level) and now.reduction > reduction
        if abs(now.reduction - reduction) <= _NEAR or at_the_top:
            break
    assert best is not None
    return best


def _apply(profile: Profile, loader: Loader, levels: dict[str, int]) -> _Try:
    """The reduction and accuracy with the masks of these levels applied.

    They are told from the features that earlier masks left, or from the plain network's, whichever
    the model's gates would learn from.
    """
    model = profile.model
    device = next(model.parameters()).device
    follow = model.pruning.target_source == "masked"
    macs = images_seen = 0
    meter = profile.task.meter(device)
    with evaluating(model):
        for images, labels in pairs(loader, "solve", profile.task):
            places = slice(images_seen, images_seen + len(labels))
            images_seen += len(labels)
            masks = {} if follow else profile.masks(levels, places)

            def decide(site: str, features: Tensor, masks: dict[str, Tensor] = masks) -> Tensor:
                if follow:
                    masks[site] = profile.rules[levels[site]].keep(features)
                return masks[site]

            output = model.forward_with_masks(decide, images.to(device))
            meter.update(profile.task.answer(output), moved(labels, device))
            macs += int(torch.sum(profile.counted(masks)))
    reduction = 1 - macs / profile.images / model.dense_macs
    return _Try(levels, reduction, meter.compute()[profile.task.score])


def _base(pruning: Pruning, sites: Iterable[str]) -> Target:
    """The rule whose amount is to be found."""
    bases = {
        base_and_amount(without_gradient(rule_of(pruning.target, site), "solve"))[0]
        for site in sites
    }
    if len(bases) > 1:
        raise FtwtError(
            "solve: the model's targets differ from site to site in more than their mass; "
            "attach with one targets.HeatmapMass or targets.TopK for all"
        )
    return bases.pop()


def _out_of_reach(profile: Profile, reduction: float, most: float) -> str:
    layers = dearest(profile.remaining(profile.uniform(0)))
    return (
        f"solve: a reduction of {reduction:g} is out of reach, the largest is {most:.3f} "
        f"({profile.convention}); with the fewest filters at every site, the layers that still "
        f"cost most of the plain network's MACs are {layers}; ask for less, or give these a gate "
        "or fewer min_channels"
    )
