"""Static pruning: masks that are the same for every image, at given exact MACs.

    sites = inner_sites(network, example)
    model = attach(network, Pruning(Fixed({})), example=example, where=sites)
    fixed = uniform_masks(model, mean_scores(model, loader), macs)

A score tells which filters of a site to keep first; how many each site keeps is either the same
share everywhere, decided by one ranking over all sites, or by how much the network's answer
suffers. A depthwise site keeps the
filters of the channels that it is given.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ftwt.budget.scores import followed, group_scores, mean_scores, weight_scores
from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates.untrained import Fixed
from ftwt.graph.live import Evaluator
from ftwt.graph.operations import Kind, kind_of
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first

# Halvings of the interval of shares: finer than one filter of a layer of 2,048.
_HALVINGS = 12
# Numbers of filters that each site is tried with, and images that it is tried on.
_STEPS, _IMAGES = 8, 512
# A step that costs nothing is taken first, whatever it saves.
_NOTHING = 1e-6

Scores = Mapping[str, Float[Tensor, " C_out"]]

__all__ = [
    "Scores", "group_scores", "inner_sites", "mean_scores", "ranked_masks", "sensitive_masks",
    "uniform_masks", "weight_scores",
]  # fmt: skip


def inner_sites(network: nn.Module, example: Tensor | tuple[Tensor, ...]) -> tuple[str, ...]:
    """Sites whose output is no part of a sum: without their filters a residual trunk stays whole.

    All sites, where every one of them is part of a sum.

    Raises:
        FtwtError: as `attach`.
    """
    anatomy = attach(network, Pruning(Fixed({})), example=example).anatomy
    traced = anatomy.traced
    inner = tuple(
        site.name
        for site in anatomy.sites
        if not any(kind_of(user, traced.module(user)) is Kind.UNION for user in site.output.users)
    )
    return inner or tuple(site.name for site in anatomy.sites)


def uniform_masks(model: Gated, scores: Scores, macs: float) -> Fixed:
    """The same share of filters in each site, best scores first, at most `macs` MACs a sample.

    What the largest such share leaves of `macs` goes to one filter more in a site, in turn, so that
    narrow networks come near to `macs` too. MACs are exact and without gates.

    Raises:
        FtwtError: even one filter a site costs more than `macs`.
    """
    counts = _Counts(model, scores, macs)

    def share_of(share: float) -> dict[str, int]:
        return {name: max(1, round(share * width)) for name, width in counts.widths.items()}

    low, high = (1.0, 1.0) if counts.fit(share_of(1.0)) else (0.0, 1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if counts.fit(share_of(middle)) else (low, middle)
    return counts.filled(share_of(low))


def ranked_masks(model: Gated, scores: Scores, macs: float, *, least: float = 0.05) -> Fixed:
    """The filters of the best scores over all sites, at most `macs` MACs a sample.

    Filters go one by one, each time that of the smallest score relative to the mean of those that
    its site still has: what one threshold for the whole network leaves (global pruning; Fang et
    al., arXiv 2301.12900, rank so too).

    Args:
        model: a gated network; its gates are not asked.
        scores: by site, not negative.
        macs: exact, without gates.
        least: share of its filters that each site keeps in any case.

    Raises:
        FtwtError: even the least that is kept costs more than `macs`.
    """
    counts = _Counts(model, scores, macs)
    least_kept = {name: max(1, round(least * width)) for name, width in counts.widths.items()}
    going = sorted(
        (share, place, name)
        for place, (name, kept) in enumerate(least_kept.items())
        for share in _going(scores[name].double().cpu())[: counts.widths[name] - kept].tolist()
    )

    def without(first: int) -> dict[str, int]:
        gone = Counter(name for _, _, name in going[:first])
        return {name: width - gone[name] for name, width in counts.widths.items()}

    if not counts.fit(least_kept):
        raise FtwtError(
            f"ranked_masks: {macs:,.0f} MACs are fewer than {least:.0%} of each layer's filters "
            f"cost, {counts.cost(least_kept):,.0f}; ask for more MACs, or give a smaller least="
        )
    fewest = bisect_left(range(len(going)), True, key=lambda first: counts.fit(without(first)))
    return counts.fixed(without(fewest))


def _going(scores: Float[Tensor, " C_out"]) -> Float[Tensor, " C_out"]:
    """Each filter's score relative to the mean of what is left when it goes, the worst first.

    A filter goes after those with lower scores, so it counts no less than they did.
    """
    rising = scores.sort().values
    left = rising.flip(0).cumsum(0).flip(0) / torch.arange(len(rising), 0, -1)
    return (rising / left.clamp_min(torch.finfo(left.dtype).tiny)).cummax(0).values


def sensitive_masks(model: Gated, scores: Scores, macs: float, loader: Loader) -> Fixed:
    """Fewer filters where the answer suffers least, best scores first, at most `macs` a sample.

    A site's suffering is the divergence of the network's answer from the dense one, measured with
    that site alone narrowed; divergences of several sites are taken to add up. Greedily, the next
    step is the one that saves most MACs for its divergence.

    Raises:
        FtwtError: even one filter a site costs more than `macs`, or the loader is empty.
    """
    counts = _Counts(model, scores, macs)
    levels = {name: _levels(width) for name, width in counts.widths.items()}
    rises = _divergences(model, counts, levels, loader)
    place, chosen = dict.fromkeys(levels, 0), None
    kept = dict(counts.widths)
    while not counts.fit(kept):
        before = counts.cost(kept)
        worth = {}
        for name, at in place.items():
            if at + 1 < len(levels[name]):
                saved = before - counts.cost(kept | {name: levels[name][at + 1]})
                rise = rises[name][at + 1] - rises[name][at]
                worth[name] = saved / max(rise, _NOTHING)
        chosen = max(worth, key=worth.__getitem__)
        place[chosen] += 1
        kept[chosen] = levels[chosen][place[chosen]]
    # The last step may have gone too far.
    return counts.filled(kept, first=chosen)


class _Counts:
    """What numbers of filters cost, and the masks that they stand for.

    `widths` are the sites that are counted, with all their filters; depthwise ones follow.
    """

    def __init__(self, model: Gated, scores: Scores, macs: float) -> None:
        self._model, self._macs = model, macs
        self._followed = dict(followed(model))
        self._ranked = {
            name: scores[name].cpu().argsort(descending=True, stable=True)
            for name in model.sites
            if name not in self._followed
        }
        self.widths = {name: len(order) for name, order in self._ranked.items()}
        least = self.cost(dict.fromkeys(self.widths, 1))
        if least > macs:
            raise FtwtError(
                f"static masks: {macs:,.0f} MACs are fewer than one filter in each layer costs, "
                f"{least:,.0f}; ask for more MACs"
            )

    def masks(self, counts: Mapping[str, int]) -> dict[str, Bool[Tensor, "1 C_out"]]:
        """A row for each site."""
        found: dict[str, Tensor] = {}
        for name in self._model.sites:
            if name not in self._followed:
                order = self._ranked[name]
                found[name] = torch.zeros(1, len(order), dtype=torch.bool)
                found[name][0, order[: counts[name]]] = True
                continue
            live = Evaluator(found, torch.ones(1, 1, dtype=torch.bool))
            found[name] = live(self._followed[name])
        return found

    def cost(self, counts: Mapping[str, int]) -> float:
        layers = self._model.anatomy.plan.exact(self.masks(counts))
        return float(torch.stack(list(layers.values())).sum())

    def fit(self, counts: Mapping[str, int]) -> bool:
        return self.cost(counts) <= self._macs

    def filled(self, kept: dict[str, int], first: str | None = None) -> Fixed:
        """Masks for these numbers, with filters more while MACs are left: one a site, in turn.

        The site `first` gets all that it can have, before the others.
        """
        for names in ([first] if first else [], list(self._ranked)):
            growing = True
            while growing:
                growing = False
                for name in names:
                    more = kept | {name: kept[name] + 1}
                    if kept[name] < self.widths[name] and self.fit(more):
                        kept, growing = more, True
        return self.fixed(kept)

    def fixed(self, counts: Mapping[str, int]) -> Fixed:
        """The masks as a gate."""
        return Fixed({name: mask[0] for name, mask in self.masks(counts).items()})


def _levels(filters: int) -> list[int]:
    """Numbers of filters to try, from all to one."""
    tried = {max(1, round(filters * step / _STEPS)) for step in range(_STEPS + 1)}
    return sorted(tried, reverse=True)


def _divergences(
    model: Gated, counts: _Counts, levels: Mapping[str, list[int]], loader: Loader
) -> dict[str, list[float]]:
    """By site the mean divergence in nats at each of its levels; never falling."""
    sums = {name: torch.zeros(len(steps), dtype=torch.float64) for name, steps in levels.items()}
    device = next(model.parameters()).device
    with evaluating(model):
        for images, _ in first(loader, _IMAGES, "sensitive_masks"):
            images = images.to(device)
            dense = model.forward_with_masks(_run_all, images).log_softmax(1)
            for name, steps in levels.items():
                for place, count in enumerate(steps[1:], 1):
                    masks = counts.masks(counts.widths | {name: count})
                    answer = model.forward_with_masks(_as(masks), images).log_softmax(1)
                    divergence = F.kl_div(answer, dense, reduction="sum", log_target=True)
                    sums[name][place] += float(divergence)
    return {name: total.cummax(0).values.tolist() for name, total in sums.items()}


def _run_all(site: str, features: Tensor) -> None:
    """Decides for every filter of a site to run."""


def _as(masks: Mapping[str, Bool[Tensor, "1 C_out"]]) -> Callable[[str, Tensor], Tensor | None]:
    """Decides as the masks say; whole ones need no multiplication."""

    def decide(site: str, features: Tensor) -> Tensor | None:
        mask = masks[site].to(features.device)
        return None if bool(mask.all()) else mask.expand(len(features), -1)

    return decide
