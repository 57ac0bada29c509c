"""One pass with every filter on: how sure the network is, and which filters images disagree on."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ftwt.gated.escalation.signals import Margin
from ftwt.gated.model import Gated
from ftwt.losses.classification import which_right
from ftwt.targets import Target
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, pairs

# Classes that are nearer than this, as probabilities, leave the answer open.
_UNSURE = 0.5


@dataclass(frozen=True, eq=False)
class Observation:
    """By image the margin and whether the answer is right; share of filters that `depends`."""

    margins: Float[Tensor, "N"]
    right: Bool[Tensor, "N"]
    depends: float

    @property
    def unsure(self) -> float:
        """Share of the images with a small margin."""
        return (self.margins < _UNSURE).double().mean().item()

    def accuracy_of_surest(self, share: float) -> float:
        """Accuracy on that share of the images, those with the largest margins."""
        count = max(1, round(share * len(self.margins)))
        surest = self.margins.argsort(descending=True, stable=True)[:count]
        return self.right[surest].double().mean().item()


def look(model: Gated, loader: Loader, rule: Target) -> Observation:
    """Note what a rule keeps for each image, and what the network answers; nothing is masked."""
    some: dict[str, Tensor] = {}
    every: dict[str, Tensor] = {}

    def note(site: str, features: Tensor) -> None:
        kept = rule.keep(features)
        some[site] = kept.any(0) | some[site] if site in some else kept.any(0)
        every[site] = kept.all(0) & every[site] if site in every else kept.all(0)

    margins, right = [], []
    device = next(model.parameters()).device
    with evaluating(model):
        for images, labels in pairs(loader, "advise"):
            output = model.forward_with_masks(note, images.to(device))
            margins.append(Margin()(output).cpu())
            right.append(which_right(output, labels).cpu())
    differ = torch.cat([(some[site] & ~every[site]).cpu() for site in some])
    return Observation(torch.cat(margins), torch.cat(right), differ.double().mean().item())
