"""How well the filters that run stand for all of a layer, over a whole set of images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ftwt.gated.model import Gated
from ftwt.reports.analysis.heatmaps import cosine, full_and_kept, iou_at_half_maximum, observed
from ftwt.training.inspection import Loader, check_gated, check_site, first


@dataclass(frozen=True)
class Similarity:
    """How alike a site's two heatmaps are, mean and standard deviation over images.

    `cosine` is the cosine similarity of the heatmap of all filters and that of those that ran,
    `iou` the overlap of where each reaches half of its own maximum; both from 0 to 1, 1 is alike.
    `kept_share` and `reduction_exact` (of the layer's MACs, without its gate) are fractions.
    """

    site: str
    images: int
    kept_share: float
    reduction_exact: float
    cosine: float
    cosine_std: float
    iou: float
    iou_std: float

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers and strings."""
        return asdict(self)


def heatmap_similarity(
    model: Gated, loader: Loader, *, sites: Sequence[str] | None = None, limit: int | None = None
) -> tuple[Similarity, ...]:
    """Compare each site's heatmap of all filters with that of the filters that ran, in one pass.

    Args:
        model: a network with gates; its training mode is restored.
        loader: gives (images, labels).
        sites: names of `model.sites`; None takes all.
        limit: look at most at so many images.

    Raises:
        FtwtError: the network has no gates or not such a site, the loader is empty, or `limit` is
            below 1.
    """
    check_gated(model, "heatmap_similarity")
    names = tuple(model.sites if sites is None else sites)
    for name in names:
        check_site(model, name, "heatmap_similarity")
    dense = {layer.name: layer.dense_macs for layer in model.anatomy.plan.layers}
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for images, _ in first(loader, limit, "heatmap_similarity"):
        masks, features = observed(model, images, names)
        macs = model.anatomy.plan.exact(masks)
        for name in names:
            full, kept = full_and_kept(features[name], masks[name])
            values = (
                masks[name].double().mean(1),
                1 - macs[name].double() / dense[name],
                cosine(full, kept).double(),
                iou_at_half_maximum(full, kept).double(),
            )
            seen[name].append(torch.stack(values, 1).cpu())
    return tuple(_summary(name, torch.cat(rows)) for name, rows in seen.items())


def _summary(name: str, rows: Tensor) -> Similarity:
    """Of rows (images, 4): kept share, reduction, cosine, IoU."""
    kept, reduction, alike, overlap = rows.mean(0).tolist()
    spread = rows.std(0, correction=0).tolist()
    return Similarity(name, len(rows), kept, reduction, alike, spread[2], overlap, spread[3])
