"""The gates' own loss: predict the target mask."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ftwt.errors import FtwtError, check_choice
from ftwt.losses.interface import TracedPass, add, add_to, scaled

Balance = Literal["site", "filter"]


@dataclass(frozen=True)
class GateBCE:
    """Binary cross entropy of each site's logits with its target mask.

    Summed over channels, mean over the batch and over sites (FTWT, arXiv 2110.08232,
    equation 5).

    With `balance` filters to keep and filters to drop weigh the same in a batch, however rare one
    of them is: with p the share of targets that are on, an on target weighs 1 / (2 p) and an off
    one 1 / (2 (1 - p)), which leaves the mean weight at 1 (King and Zeng, "Logistic regression in
    rare events data", 2001, section 4.2). p is taken over a "site", or over each "filter" of it:
    then a gate gains nothing by answering every image with the filter's usual answer. Where all
    targets are the same the weight is 1.
    """

    balance: Balance | None = None

    trains_gates_alone: ClassVar[bool] = True
    __add__, __radd__ = add, add_to
    __mul__ = __rmul__ = scaled

    def __post_init__(self) -> None:
        check_choice("GateBCE", "balance", self.balance, (None, "site", "filter"))

    def __call__(self, trace: TracedPass, labels: Any = None) -> Float[Tensor, ""]:
        """Return the loss in nats; labels are not used."""
        logits = [site.logits for site in trace.sites.values() if site.logits is not None]
        targets = [site.target for site in trace.sites.values() if site.target is not None]
        if not trace.sites:
            raise FtwtError(
                "GateBCE: the network has no gates to train; leave this loss out, or train what "
                "ftwt.attach returns"
            )
        if len(logits) < len(trace.sites):
            raise FtwtError(
                "GateBCE: the gates are oracles, which have no logits to train; "
                "attach with gates.PooledLinear() or another trainable gate"
            )
        if len(targets) < len(trace.sites):
            raise FtwtError(
                "GateBCE: the trace holds no targets; call model.trace(images) with targets=True"
            )
        # Sites may have several rows for a sample, but most have as many as the others.
        totals = []
        for rows in dict.fromkeys(map(len, logits)):
            alike = [one for one in targets if len(one) == rows]
            # Their sites in one call: a sum over channels and sites, a mean over the rows.
            joined = torch.cat([one for one in logits if len(one) == rows], 1).float()
            wanted = torch.cat(alike, 1)
            total = F.binary_cross_entropy_with_logits(
                joined, wanted.float(), self._weights(alike, wanted), reduction="sum"
            )
            totals.append(total / rows)
        return torch.stack(totals).sum() / len(trace.sites)

    def _weights(
        self, targets: list[Tensor], joined: Bool[Tensor, "B C"]
    ) -> Float[Tensor, "B C"] | None:
        match self.balance:
            case None:
                return None
            case "filter":
                on = joined.float().mean(0)
            case "site":
                on = torch.cat([one.float().mean().expand(one.shape[1]) for one in targets])
        own = torch.where(joined, on, 1 - on)
        # Where all are the same, their own share is 1.
        return torch.where(own == 1, 1.0, 0.5 / own)
