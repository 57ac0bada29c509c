"""The arms: ways to spend a budget of exact MACs, all trained under a study's one recipe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.pareto.peers import by_torch_pruning
from benchmarks.pareto.study import Study, Trained
from ftwt import budget, gates, targets
from ftwt.budget.narrow_start import chosen_on, narrow_start
from ftwt.budget.static import (
    group_scores,
    mean_scores,
    ranked_masks,
    sensitive_masks,
    uniform_masks,
    weight_scores,
)
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates import Fixed
from ftwt.io import storage
from ftwt.training.recipes.best import best

Make = Callable[[Study, float], Trained]
Choose = Callable[[Study, Gated, float], Fixed]


@dataclass(frozen=True)
class Arm:
    """How a network is made for a reduction, and what to call that on the page."""

    make: Make
    about: str


def dense(study: Study, reduction: float) -> Trained:
    """The control: as many epochs more for the whole network, whatever the reduction."""
    return study.train("dense", study.recipe(), study.start)


def static(choose: Choose, called: str) -> Make:
    """An arm whose masks are the same for every image, trained as the narrow network it is."""

    def make(study: Study, reduction: float) -> Trained:
        run = f"{called}-{100 * reduction:g}"
        start = study.folder(run).with_name(f"{study.folder(run).name}-start")
        begun = narrow_start(
            start,
            study.plain,
            lambda whole: choose(study, whole, study.macs(reduction)),
            example=study.example,
            card=storage.load(study.start)[1],
        )
        return study.train(run, study.recipe(begun.pruning), start)

    return make


def by_mean_l2(study: Study, whole: Gated, macs: float) -> Fixed:
    """The same share in each layer, of the filters with the largest mean L2 norm of features."""
    return uniform_masks(whole, mean_scores(whole, chosen_on(study.dataset)), macs)


def by_weights(study: Study, whole: Gated, macs: float) -> Fixed:
    """The same share in each layer, of the filters with the largest weights (L1)."""
    return uniform_masks(whole, weight_scores(whole), macs)


def by_sensitivity(study: Study, whole: Gated, macs: float) -> Fixed:
    """Filters by mean L2 norm; how many a layer keeps by what the answer suffers."""
    scores = mean_scores(whole, chosen_on(study.dataset))
    return sensitive_masks(whole, scores, macs, chosen_on(study.dataset))


def by_ranking(study: Study, whole: Gated, macs: float) -> Fixed:
    """One ranking over all layers, by the squared L2 norm of the weights that go with a filter."""
    return ranked_masks(whole, group_scores(whole), macs)


def at_random(study: Study, whole: Gated, macs: float) -> Fixed:
    """The same share in each layer, of filters drawn at random: what choosing is worth."""
    drawn = torch.Generator().manual_seed(study.seed)
    widths = {site: len(one) for site, one in weight_scores(whole).items()}
    scores = {site: torch.rand(width, generator=drawn) for site, width in widths.items()}
    return uniform_masks(whole, scores, macs)


def with_gates(pruning: Pruning, called: str, *, inner: bool) -> Make:
    """An arm whose gates choose filters by image, brought to the reduction on held-out images."""

    def make(study: Study, reduction: float) -> Trained:
        run = f"{called}-{100 * reduction:g}"
        recipe = study.with_gates(pruning, study.inner_sites if inner else None)
        model, record = budget.train_to(
            recipe, study.dataset, study.folder(run),
            reduction=reduction, init=study.start,
            train=lambda chosen, before: study.run(run, chosen, before),
        )  # fmt: skip
        return Trained(model, record)

    return make


def escalated(study: Study, reduction: float) -> Trained:
    """What ftwt recommends: a narrow network, and a wider or the whole one where that is unsure.

    Both are other arms' runs, trained for what they cost: the arms differ in when who is asked.
    """
    how = best(study.network, study.overrides)
    assert how.escalation is not None
    shares = how.escalation.shares(reduction)
    runs = dict(zip(("first", "last"), map(_run_of, shares), strict=True))
    model, record = budget.train_escalated(
        how, study.dataset,
        study.folder(f"escalated-{100 * reduction:g}"),
        reduction=reduction, init=study.start,
        train=lambda stage, recipe, init: study.train(runs[stage], recipe, init),
    )  # fmt: skip
    return Trained(model, record)


def _run_of(share: float) -> str:
    """The run that trains a stage of some share of the MACs."""
    return "dense" if share == 1 else f"static-ranked-{100 * (1 - share):g}"


PAPER = Pruning(gates.PooledLinear(), targets.HeatmapMass(0.9))
OURS = Pruning(
    gates.PooledLinear(pool="mean_std", normalize="batch"), targets.HeatmapMass(0.9, score="l2")
)

ARMS: Mapping[str, Arm] = {
    "dense": Arm(dense, "the whole network, trained on"),
    "static-l2": Arm(static(by_mean_l2, "static-l2"), "fixed masks by mean L2 of features"),
    "static-l1": Arm(static(by_weights, "static-l1"), "fixed masks by L1 of weights"),
    "static-sensitivity": Arm(
        static(by_sensitivity, "static-sensitivity"), "fixed masks, layers by sensitivity"
    ),
    "static-ranked": Arm(
        static(by_ranking, "static-ranked"), "fixed masks by one ranking of weights over all layers"
    ),
    "static-random": Arm(static(at_random, "static-random"), "fixed masks at random"),
    "torch-pruning": Arm(
        static(by_torch_pruning, "torch-pruning"), "fixed masks that Torch-Pruning chooses"
    ),
    "escalated": Arm(escalated, "narrow first, a wider or the whole network where that is unsure"),
    "paper-gates": Arm(
        with_gates(PAPER, "paper-gates", inner=False), "the paper's gates, by image"
    ),
    "gates": Arm(
        with_gates(OURS, "gates", inner=True),
        "gates by means, deviations and batch norm that learn the L2 norm, inner layers alone",
    ),
}
