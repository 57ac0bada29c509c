"""Heatmaps of a site: of all its filters, and of those that run."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ftwt.gated.masking import activated
from ftwt.gated.model import Gated
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import check_gated, check_site


def heatmap(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H W"]:
    """Mean over channels of the magnitude of features."""
    return reduce(features.abs(), "b c h w -> b h w", "mean")


def cosine(one: Float[Tensor, "B H W"], other: Float[Tensor, "B H W"]) -> Float[Tensor, "B"]:
    """Cosine similarity of heatmaps, from 0 to 1; two empty ones are alike."""
    one, other = one.flatten(1).double(), other.flatten(1).double()
    similarity = F.cosine_similarity(one, other, dim=1, eps=0.0).clamp(0, 1)
    both_empty = ~one.any(1) & ~other.any(1)
    return torch.where(both_empty, 1.0, similarity.nan_to_num(0.0)).float()


def iou_at_half_maximum(
    one: Float[Tensor, "B H W"], other: Float[Tensor, "B H W"]
) -> Float[Tensor, "B"]:
    """Intersection over union of where each heatmap reaches half of its own maximum, from 0 to 1.

    Two empty heatmaps are alike.
    """
    mine, theirs = _upper_half(one).flatten(1), _upper_half(other).flatten(1)
    union = (mine | theirs).sum(1)
    return torch.where(union > 0, (mine & theirs).sum(1) / union.clamp(min=1), 1.0)


def _upper_half(map_: Float[Tensor, "B H W"]) -> Bool[Tensor, "B H W"]:
    peak = reduce(map_, "b h w -> b 1 1", "max")
    return (map_ >= peak / 2) & (map_ > 0)


@dataclass(frozen=True, eq=False)
class Heatmaps:
    """One site's heatmaps for a batch of images, at the resolution of its features.

    Both are means over all of the site's channels, so `kept` is never above `full`. For each image:
    the share of filters that ran, the fraction of the layer's MACs that did not (exact, without the
    gate), and how alike the two heatmaps are.
    """

    site: str
    filters: int
    full: Float[Tensor, "B H W"]
    kept: Float[Tensor, "B H W"]
    kept_share: tuple[float, ...]
    reduction_exact: tuple[float, ...]
    cosine: tuple[float, ...]
    iou_at_half_maximum: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The numbers for each image as plain fields, without the maps."""
        return {
            "site": self.site,
            "filters": self.filters,
            "kept_share": list(self.kept_share),
            "reduction_exact": list(self.reduction_exact),
            "cosine": list(self.cosine),
            "iou_at_half_maximum": list(self.iou_at_half_maximum),
        }


def heatmaps(model: Gated, images: Float[Tensor, "B 3 H W"], site: str) -> Heatmaps:
    """Measure one site's heatmaps in the gated network, in evaluation mode and without a graph.

    Args:
        model: a network with gates; its training mode is restored.
        images: a batch as the network takes it, that is, normalised.
        site: one of `model.sites`.

    Raises:
        FtwtError: the network has no gates, or not this site.
    """
    check_gated(model, "heatmaps")
    check_site(model, site, "heatmaps")
    masks, features = observed(model, images, (site,))
    mask = masks[site]
    full, kept = full_and_kept(features[site], mask)
    macs = model.anatomy.plan.exact(masks)[site]
    dense = next(layer.dense_macs for layer in model.anatomy.plan.layers if layer.name == site)
    return Heatmaps(
        site=site,
        filters=mask.shape[1],
        full=full.cpu().clone(),
        kept=kept.cpu().clone(),
        kept_share=tuple(mask.double().mean(1).tolist()),
        reduction_exact=tuple((1 - macs.double() / dense).tolist()),
        cosine=tuple(cosine(full, kept).tolist()),
        iou_at_half_maximum=tuple(iou_at_half_maximum(full, kept).tolist()),
    )


def observed(
    model: Gated, images: Float[Tensor, "B 3 H W"], sites: Sequence[str]
) -> tuple[dict[str, Bool[Tensor, "B C"]], dict[str, Float[Tensor, "B C H W"]]]:
    """Masks of all sites, and the features of some before their masks, in evaluation mode."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            # (site input, unmasked features, the pass, perhaps a ReLU to come)
            seen[name] = activated(inputs[1], *inputs[3:])

        return hook

    keys = {one.name: one.key for one in model.anatomy.sites}
    with ExitStack() as hooks, evaluating(model):
        for name in sites:
            hook = model.gates[keys[name]].register_forward_pre_hook(note(name))
            hooks.callback(hook.remove)
        trace = model.trace(images.to(next(model.parameters()).device), targets=False)
        return dict(trace.masks), seen


def full_and_kept(
    features: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B C"]
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W"]]:
    """Heatmaps of all of a site's filters, and of those that its mask keeps."""
    return heatmap(features), heatmap(features * rearrange(mask, "b c -> b c 1 1"))


def upsample(maps: Float[Tensor, "B H W"], size: tuple[int, int]) -> Float[Tensor, "B H_big W_big"]:
    """Bilinear interpolation of heatmaps to an image's height and width."""
    big = F.interpolate(rearrange(maps, "b h w -> b 1 h w"), size, mode="bilinear")
    return rearrange(big, "b 1 h w -> b h w")
