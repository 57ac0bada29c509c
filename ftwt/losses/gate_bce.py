"""The gates' own loss: predict the target mask."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ftwt.errors import FtwtError
from ftwt.losses.interface import add, scale
from ftwt.trace import Trace


@dataclass(frozen=True)
class GateBCE:
    """Binary cross entropy of each site's logits with its target mask.

    Summed over channels, mean over the batch and over sites (FTWT, arXiv 2110.08232,
    equation 5).
    """

    __add__ = add
    __rmul__ = scale

    def __call__(self, trace: Trace, labels: Int[Tensor, "B"] | None = None) -> Float[Tensor, ""]:
        """Return the loss in nats; labels are not used."""
        logits = [site.logits for site in trace.sites.values() if site.logits is not None]
        targets = [site.target for site in trace.sites.values() if site.target is not None]
        if len(logits) < len(trace.sites):
            raise FtwtError(
                "GateBCE: the gates are oracles, which have no logits to train; "
                "attach with gates.PooledLinear() or another trainable gate"
            )
        if len(targets) < len(trace.sites):
            raise FtwtError(
                "GateBCE: the trace holds no targets; call model.trace(images) with targets=True"
            )
        # All sites in one call: a sum over channels and sites, a mean over the batch.
        joined, wanted = torch.cat(logits, 1).float(), torch.cat(targets, 1).float()
        total = F.binary_cross_entropy_with_logits(joined, wanted, reduction="sum")
        return total / (joined.shape[0] * len(trace.sites))
