"""What a network would be without the filters that never ran."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ftwt.analysis.activity import Activity
from ftwt.model import Gated
from ftwt.slicing import cut


@dataclass(frozen=True)
class Removal:
    """Parameters and MACs of the plain network, whole and without the filters that never ran.

    MACs are exact, for one sample with all other filters running; gates are in neither.
    """

    filters: int
    filters_left: int
    parameters: int
    parameters_left: int
    macs: int
    macs_left: int

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers."""
        return asdict(self)


def without_never(model: Gated, seen: Activity) -> Removal:
    """Cut out of a gated network's backbone what never ran while `seen` was measured.

    Raises:
        FtwtError: the network cannot be cut, as `ftwt.slicing.cut` says.
    """
    masks = {site.name: torch.tensor(site.share_of_images_by_filter) > 0 for site in seen.sites}
    small = cut(model, masks, fold=False)
    exact = model.anatomy.plan.exact({name: mask[None] for name, mask in masks.items()})
    return Removal(
        filters=sum(len(mask) for mask in masks.values()),
        filters_left=sum(int(mask.sum()) for mask in masks.values()),
        parameters=sum(one.numel() for one in model.backbone_parameters()),
        parameters_left=sum(one.numel() for one in small.parameters()),
        macs=model.dense_macs,
        macs_left=sum(int(one) for one in exact.values()),
    )
