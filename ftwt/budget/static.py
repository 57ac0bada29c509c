"""Static pruning: masks that are the same for every image, at given exact MACs.

    model = attach(network, Pruning(Fixed({})), example=example)
    fixed = uniform_masks(model, mean_scores(model, loader), macs)

A score tells which filters of a site to keep first; how many each site keeps is either the same
share everywhere, or decided by how much the network's answer suffers.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.gates.untrained import Fixed
from ftwt.targets import Score, channel_scores
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first

# Halvings of the interval of shares: finer than one filter of a layer of 2,048.
_HALVINGS = 12
# Numbers of filters that each site is tried with, and images that it is tried on.
_STEPS, _IMAGES = 8, 512
# A step that costs nothing is taken first, whatever it saves.
_NOTHING = 1e-6

Scores = Mapping[str, Float[Tensor, " C_out"]]


def weight_scores(model: Gated) -> dict[str, Float[Tensor, " C_out"]]:
    """The L1 norm of each filter's weights (Li et al., arXiv 1608.08710, section 3.1), by site.

    Raises:
        FtwtError: a site is no module with a weight.
    """
    scores = {}
    for site in model.anatomy.sites:
        weight = getattr(site.module, "weight", None)
        if not isinstance(weight, Tensor):
            raise FtwtError(
                f"weight_scores: site {site.name!r} is no module with a weight, so its filters "
                "cannot be ranked; leave it out with where="
            )
        scores[site.name] = weight.detach().flatten(1).abs().sum(1)
    return scores


def mean_scores(
    model: Gated, loader: Loader, *, score: Score = "l2", limit: int | None = None
) -> dict[str, Float[Tensor, " C_out"]]:
    """Mean over images of each filter's score with every filter on, by site.

    Args:
        model: a gated network; its gates are not asked.
        loader: gives (images, labels).
        score: how a channel of a site's output is scored, as in a target.
        limit: look at most at so many images.

    Raises:
        FtwtError: the loader is empty, or `limit` is below 1.
    """
    sums: dict[str, Tensor] = {}
    images_seen = 0

    def note(site: str, features: Tensor) -> None:
        found = channel_scores(features, score).double().sum(0)
        sums[site] = sums[site] + found if site in sums else found

    with evaluating(model):
        device = next(model.parameters()).device
        for images, _ in first(loader, limit, "mean_scores"):
            model.decided(note, images.to(device))
            images_seen += len(images)
    return {site: total / images_seen for site, total in sums.items()}


def uniform_masks(model: Gated, scores: Scores, macs: float) -> Fixed:
    """The same share of filters in each site, best scores first, at most `macs` MACs a sample.

    What the largest such share leaves of `macs` goes to one filter more in a site, in turn, so that
    narrow networks come near to `macs` too. MACs are exact and without gates.

    Raises:
        FtwtError: even one filter a site costs more than `macs`.
    """
    counts = _Counts(model, scores, macs)

    def share_of(share: float) -> dict[str, int]:
        return {name: max(1, round(share * len(one))) for name, one in scores.items()}

    low, high = (1.0, 1.0) if counts.fit(share_of(1.0)) else (0.0, 1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if counts.fit(share_of(middle)) else (low, middle)
    return counts.filled(share_of(low))


def sensitive_masks(model: Gated, scores: Scores, macs: float, loader: Loader) -> Fixed:
    """Fewer filters where the answer suffers least, best scores first, at most `macs` a sample.

    A site's suffering is the divergence of the network's answer from the dense one, measured with
    that site alone narrowed; divergences of several sites are taken to add up. Greedily, the next
    step is the one that saves most MACs for its divergence.

    Raises:
        FtwtError: even one filter a site costs more than `macs`, or the loader is empty.
    """
    counts = _Counts(model, scores, macs)
    levels = {name: _levels(len(one)) for name, one in scores.items()}
    rises = _divergences(model, counts, levels, loader)
    place, chosen = dict.fromkeys(scores, 0), None
    kept = {name: len(one) for name, one in scores.items()}
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
    """What numbers of filters cost, and the masks that they stand for."""

    def __init__(self, model: Gated, scores: Scores, macs: float) -> None:
        self._plan, self._macs = model.anatomy.plan, macs
        self._ranked = {
            name: one.cpu().argsort(descending=True, stable=True) for name, one in scores.items()
        }
        least = self.cost(dict.fromkeys(scores, 1))
        if least > macs:
            raise FtwtError(
                f"static masks: {macs:,.0f} MACs are fewer than one filter in each layer costs, "
                f"{least:,.0f}; ask for more MACs"
            )

    def mask(self, name: str, count: int) -> Tensor:
        order = self._ranked[name]
        mask = torch.zeros(len(order), dtype=torch.bool)
        mask[order[:count]] = True
        return mask

    def cost(self, counts: Mapping[str, int]) -> float:
        masks = {name: self.mask(name, count)[None] for name, count in counts.items()}
        layers = self._plan.exact(masks)
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
                    if kept[name] < len(self._ranked[name]) and self.fit(more):
                        kept, growing = more, True
        return Fixed({name: self.mask(name, count) for name, count in kept.items()})


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
            dense = model.decided(_narrowed(None, None), images).log_softmax(1)
            for name, steps in levels.items():
                for place, count in enumerate(steps[1:], 1):
                    alone = _narrowed(name, counts.mask(name, count).to(device))
                    answer = model.decided(alone, images).log_softmax(1)
                    divergence = F.kl_div(answer, dense, reduction="sum", log_target=True)
                    sums[name][place] += float(divergence)
    return {name: total.cummax(0).values.tolist() for name, total in sums.items()}


def _narrowed(narrowed: str | None, mask: Tensor | None) -> Callable[[str, Tensor], Tensor | None]:
    """Decides for every site to run all filters, and for one its mask."""

    def decide(site: str, features: Tensor) -> Tensor | None:
        return mask.expand(len(features), -1) if site == narrowed and mask is not None else None

    return decide
