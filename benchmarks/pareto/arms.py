"""The arms: ways to spend a budget of exact MACs, all trained under a study's one recipe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.pareto.peers import by_torch_pruning
from benchmarks.pareto.study import Study, Trained
from ftwt import budget, gates, targets
from ftwt.budget.static import mean_scores, sensitive_masks, uniform_masks, weight_scores
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates import Fixed
from ftwt.io import storage
from ftwt.slicing import narrow

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
        if not (start / "model.safetensors").is_file():
            start.mkdir(parents=True, exist_ok=True)
            fixed = choose(study, study.gated(Pruning(Fixed({}))), study.macs(reduction))
            small = narrow(study.gated(Pruning(fixed)), _masks(fixed))
            _, card = storage.load(study.start)
            # The teacher first: with the narrow network the folder is whole.
            storage.save(study.plain, start / "dense.safetensors", card)
            storage.save(small, start / "model.safetensors", card)
        begun, _ = storage.load(start)
        assert isinstance(begun, Gated)
        return study.train(run, study.recipe(begun.pruning), start)

    return make


def by_mean_l2(study: Study, whole: Gated, macs: float) -> Fixed:
    """The same share in each layer, of the filters with the largest mean L2 norm of features."""
    return uniform_masks(whole, mean_scores(whole, study.ranked_on), macs)


def by_weights(study: Study, whole: Gated, macs: float) -> Fixed:
    """The same share in each layer, of the filters with the largest weights (L1)."""
    return uniform_masks(whole, weight_scores(whole), macs)


def by_sensitivity(study: Study, whole: Gated, macs: float) -> Fixed:
    """Filters by mean L2 norm; how many a layer keeps by what the answer suffers."""
    scores = mean_scores(whole, study.ranked_on)
    return sensitive_masks(whole, scores, macs, study.ranked_on)


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
            train=lambda chosen, before: study.run(run, chosen, study.start, before),
        )  # fmt: skip
        return Trained(model, record)

    return make


def _masks(fixed: Fixed) -> Mapping[str, Tensor]:
    return {site: torch.tensor(rows[0]) for site, rows in fixed.masks.items()}


PAPER = Pruning(gates.PooledLinear(), targets.HeatmapMass(0.9))

ARMS: Mapping[str, Arm] = {
    "dense": Arm(dense, "the whole network, trained on"),
    "static-l2": Arm(static(by_mean_l2, "static-l2"), "fixed masks by mean L2 of features"),
    "static-l1": Arm(static(by_weights, "static-l1"), "fixed masks by L1 of weights"),
    "static-sensitivity": Arm(
        static(by_sensitivity, "static-sensitivity"), "fixed masks, layers by sensitivity"
    ),
    "static-random": Arm(static(at_random, "static-random"), "fixed masks at random"),
    "torch-pruning": Arm(
        static(by_torch_pruning, "torch-pruning"), "fixed masks that Torch-Pruning chooses"
    ),
    "paper-gates": Arm(
        with_gates(PAPER, "paper-gates", inner=False), "the paper's gates, by image"
    ),
}
