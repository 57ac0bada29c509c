"""Which filters of a site to keep first: by weights, by all that goes with them, by images."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.graph import calls
from ftwt.graph.live import Evaluator, Live
from ftwt.graph.operations import BATCH_NORMS
from ftwt.targets import Score, channel_scores
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first


def weight_scores(model: Gated, *, power: int = 1) -> dict[str, Float[Tensor, " C_out"]]:
    """The sum of each filter's absolute weights to a power, by site.

    Power 1 is the L1 norm (Li et al., arXiv 1608.08710, section 3.1), 2 the squared L2 norm.

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
        scores[site.name] = weight.detach().flatten(1).abs().pow(power).sum(1)
    return scores


def group_scores(model: Gated) -> dict[str, Float[Tensor, " C_out"]]:
    """The squared L2 norm of the weights that go with each filter, by site.

    These are the filter itself, its scale in batch norm, and what reads its channel: the next
    layers' weights, through depthwise convolutions, sums, concatenations and shuffles; the mean of
    their norms (group magnitude: Fang et al., arXiv 2301.12900, section 3.3).

    Raises:
        FtwtError: a site is no module with a weight.
    """
    own = weight_scores(model, power=2)
    follows, scales = dict(followed(model)), _norm_scales(model)
    modules = dict(model.named_modules())
    scores = {}
    for name, weights in own.items():
        # Row c: what is left without filter c.
        rows = {
            site: torch.ones(len(weights), len(one), dtype=torch.bool) for site, one in own.items()
        }
        rows[name] = ~torch.eye(len(weights), dtype=torch.bool)
        live = Evaluator(rows, rows[name])
        for site, given in follows.items():
            if site != name:
                rows[site] = live(given)
        parts = [weights]
        parts += [_gone(rows[site], scale.square()) for site, scale in scales.items()]
        for layer in model.anatomy.plan.layers:
            weight = getattr(modules.get(layer.name), "weight", None)
            if layer.inputs is not None and isinstance(weight, Tensor):
                by_group = (
                    weight.detach()
                    .square()
                    .reshape(
                        layer.groups, layer.out_channels // layer.groups, -1, weight[0, 0].numel()
                    )
                )
                parts.append(_gone(live(layer.inputs), by_group.sum((1, 3)).flatten()))
        scores[name] = torch.stack([one for one in parts if bool(one.any())] or [weights]).mean(0)
    return scores


def _gone(left: Bool[Tensor, "C_out C"], norms: Float[Tensor, " C"]) -> Float[Tensor, " C_out"]:
    """The norms that go with each filter."""
    return (~left).to(norms) @ norms


def _norm_scales(model: Gated) -> dict[str, Float[Tensor, " C_out"]]:
    """Of each site that has a batch norm with scales, these."""
    traced, found = model.anatomy.traced, {}
    for site in model.anatomy.sites:
        node = site.convolution
        while node is not site.output:
            (node,) = node.users
            weight = getattr(traced.module(node), "weight", None)
            if isinstance(traced.module(node), BATCH_NORMS) and isinstance(weight, Tensor):
                found[site.name] = weight.detach()
    return found


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
            model.forward_with_masks(note, images.to(device))
            images_seen += len(images)
    return {site: total / images_seen for site, total in sums.items()}


def followed(model: Gated) -> Iterator[tuple[str, Live]]:
    """Depthwise sites, which keep a filter for each channel that they are given."""
    for site in model.anatomy.sites:
        conv, source = site.module, calls.source_of(site.convolution)
        if not isinstance(conv, nn.Conv2d) or source is None:
            continue
        if 1 < conv.groups == conv.in_channels == conv.out_channels:
            yield site.name, model.anatomy.liveness.channels(source)
