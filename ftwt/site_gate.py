"""One site's gate inside a running network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ftwt.gates.interface import SiteShape
from ftwt.gates.untrained import Oracle
from ftwt.pruning import Pruning
from ftwt.targets.interface import Target
from ftwt.targets.per_site import PerSite
from ftwt.trace import SiteTrace


class Recorder:
    """Collects what the sites of one pass decide."""

    def __init__(self, *, targets: bool, given: Mapping[str, Tensor] | None = None) -> None:
        self.targets = targets
        self.given = given
        self.sites: dict[str, SiteTrace] = {}

    def target(self, site: str, rule: Target, features: Tensor) -> Tensor:
        """The target of a site: given, or by the rule."""
        return rule(features.detach()) if self.given is None else self.given[site]


# From a site's name and output to the mask of its filters, (B, C); None runs them all.
Decide = Callable[[str, Tensor], Tensor | None]


@dataclass(frozen=True)
class Decided:
    """Stands in for all gates in one pass."""

    decide: Decide


class SiteGate(nn.Module):
    """One site's gate: masks the site's output, and notes what it decided if asked to.

    A filter runs where its logit is above `threshold`.
    """

    def __init__(self, site: SiteShape, pruning: Pruning) -> None:
        super().__init__()
        self.site = site
        self.pruning = pruning
        self.gate = pruning.gate.build(site)
        rule = pruning.target
        self.target: Target = rule.of(site.name) if isinstance(rule, PerSite) else rule
        self.threshold = 0.0

    def forward(
        self,
        inputs: Float[Tensor, "B C_in *space_in"],
        features: Float[Tensor, "B C *space"],
        recorder: Recorder | Decided | None,
    ) -> Float[Tensor, "B C *space"]:
        """Return the features with the filters that do not run at zero."""
        if isinstance(recorder, Decided):
            mask = recorder.decide(self.site.name, features)
            return features if mask is None else _masked(features, mask)
        pruning = self.pruning
        target, logits = None, None
        oracle = isinstance(pruning.gate, Oracle)
        if recorder is None and oracle:
            target = self.target(features.detach())
        elif recorder is not None and (oracle or recorder.targets):
            target = recorder.target(self.site.name, self.target, features)
        if oracle:
            assert target is not None
            weight = target.to(features.dtype)
        else:
            logits = self.gate(inputs.detach() if pruning.coupling == "decoupled" else inputs)
            shifted = logits - self.threshold if self.threshold else logits
            weight = pruning.estimator(shifted, training=self.training)
        if recorder is not None:
            recorder.sites[self.site.name] = SiteTrace(weight > 0, weight, logits, target)
        return _masked(features, weight)


def _masked(features: Tensor, weight: Tensor) -> Tensor:
    space = (1,) * (features.dim() - 2)
    return features * weight.to(features.dtype).view(*weight.shape, *space)
