"""A loss on what the masks cost."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from ftwt.errors import FtwtError, check_within
from ftwt.losses.interface import TracedPass, add, add_to, scaled


@dataclass(frozen=True)
class MacBudget:
    """Squared excess of the batch's mean exact MACs over a fraction of the dense MACs.

    max(0, mean(macs) / dense - fraction)^2, gates included. It reaches the gates through a
    differentiable estimator (`gates.StraightThrough()` or `gates.Gumbel()`), with a union of live
    channels relaxed to a + b - ab and an intersection to ab.
    """

    fraction: float

    trains_gates_alone: ClassVar[bool] = True
    __add__, __radd__ = add, add_to
    __mul__ = __rmul__ = scaled

    def __post_init__(self) -> None:
        mend = "give the share of the dense MACs to spend, for example 0.5"
        check_within("MacBudget", "fraction", self.fraction, "(0, 1]", mend)

    def __call__(self, trace: TracedPass, labels: Any = None) -> Float[Tensor, ""]:
        """Return the loss, a square of fractions; labels are not used."""
        if not any(site.weight.requires_grad for site in trace.sites.values()):
            raise FtwtError(
                "MacBudget: no gradient reaches the gates; attach with "
                "Pruning(estimator=gates.StraightThrough()) or gates.Gumbel() and trace with "
                "gradients on"
            )
        share = trace.relaxed_share().mean()
        return (share - self.fraction).clamp(min=0).square().float()
