"""One site's gate inside a running network."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ftwt.errors import FtwtError, what_came
from ftwt.gated.masking import Relu, activated, is_plain, masked, masked_relu
from ftwt.gated.pruning import Pruning
from ftwt.gates.interface import SharesModule, follows_input, has_constant_weights
from ftwt.graph import calls
from ftwt.graph.live import All, Live
from ftwt.graph.liveness import Liveness
from ftwt.graph.sites import Candidate, SiteShape, shape_of
from ftwt.graph.tracing import Traced
from ftwt.targets.interface import RankingTarget, rule_of


class PendingTarget(NamedTuple):
    """A target that is still to be found: the rule, and the scores that it ranks.

    `maxima`: the scores are the maxima of the site's channels over space.
    """

    rule: RankingTarget
    scores: Float[Tensor, "B C"]
    maxima: bool = False


class Decision(NamedTuple):
    """What runs at one site: `weight` multiplies its output.

    `logits` is None where no gate was asked. The target is there, follows from the ranking, or was
    not asked for.
    """

    weight: Float[Tensor, "B C"]
    logits: Float[Tensor, "B C"] | None = None
    target: Bool[Tensor, "B C"] | None = None
    ranking: PendingTarget | None = None


@runtime_checkable
class GatePass(Protocol):
    """One pass through the network: who decides at each site, and what is noted of it."""

    @property
    def shows_features(self) -> bool:
        """Whether others are shown the features and may keep them: they are not written on then."""
        ...

    def decide(
        self, gate: "SiteGate", inputs: Tensor, features: Tensor, *, rectified: bool
    ) -> Decision | None:
        """What runs at a site, from its input and output; None runs every filter.

        `rectified`: the output has nothing negative.
        """
        ...

    def observe(
        self, gate: "SiteGate", decision: Decision, features: Tensor, output: Tensor
    ) -> Tensor:
        """Take note of a decision, and return the output with which the network goes on.

        `features` are overwritten already where they were `rectified`.
        """
        ...


class SiteGate(nn.Module):
    """One site's gate: masks the site's output with what a pass decides, mostly by this gate.

    A filter runs where its logit is above `threshold`, or, of a gate that follows its input, where
    that is `live`.
    """

    def __init__(self, site: SiteShape, pruning: Pruning, live: Live) -> None:
        super().__init__()
        self.site = site
        self.live = live
        self.pruning = pruning
        self.gate = pruning.gate.build(site)
        # What all sites share, at the first one: see `ftwt.gated.shared`.
        self.shared: nn.Module | None = None
        self.asks = isinstance(pruning.gate, SharesModule)
        self.target = rule_of(pruning.target, site.name)
        self.threshold = 0.0

    def forward(
        self,
        inputs: Float[Tensor, "B C_in *space_in"],
        features: Float[Tensor, "B C *space"],
        run: GatePass,
        relu: Relu | None = None,
    ) -> Float[Tensor, "B C *space"]:
        """Return the features with the filters that do not run at zero.

        A `relu` is still to be applied to them beforehand.
        """
        fused = not run.shows_features and self._fuses(relu)
        dense = features.detach().relu() if fused else activated(features, relu)
        decision = run.decide(self, inputs, dense, rectified=fused)
        if decision is None:
            return dense
        weight = decision.weight
        output = masked_relu(features, dense, weight) if fused else masked(dense, weight)
        return run.observe(self, decision, dense, output)

    def decide(self, read: Tensor, *context: Any) -> Decision:
        """What the gate says of what it `reads`: the input, or the input's maxima, (B, C_in).

        `context` is what the gates' shared module answered, for a gate that `asks` for it.
        """
        logits = self._logits(self.gate(read, *context))
        shifted = logits - self.threshold if self.threshold else logits
        weight = self.pruning.estimator.weights(shifted, training=self.training)
        return Decision(weight, logits)

    def _logits(self, answer: object) -> Tensor:
        """The gate's answer, if it is one number for each filter."""
        filters = self.site.out_channels
        numbers = isinstance(answer, Tensor) and answer.is_floating_point() and answer.dim() == 2
        if isinstance(answer, Tensor) and numbers and answer.shape[1] == filters:
            return answer
        raise FtwtError(
            f"trace: the gate of {self.site.name}, {type(self.pruning.gate).__name__}, answers "
            f"{what_came(answer)}, expected logits (B, {filters}), above 0 where a filter runs; "
            "end it with nn.Linear(..., site.out_channels)"
        )

    def reads(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_in *space"]:
        """The input as the gate reads it: with its gradient under joint coupling alone."""
        return inputs if self.pruning.coupling == "joint" else inputs.detach()

    @property
    def follows(self) -> bool:
        """Whether the site takes over the mask of its input, for which a pass has to be noted."""
        return follows_input(self.gate)

    def _fuses(self, relu: Relu | None) -> bool:
        """Whether a ReLU can run with the mask, as one operation.

        Not where a gradient reaches the weight, for which the features would have to be kept, nor
        where a hook watches the ReLU. A compiler fuses by itself.
        """
        constant = has_constant_weights(self.pruning.estimator) or not torch.is_grad_enabled()
        return constant and is_plain(relu) and not torch.compiler.is_compiling()


def site_gates(
    sites: Iterable[Candidate], traced: Traced, liveness: Liveness, pruning: Pruning
) -> nn.ModuleDict:
    """A new gate for each site, by its key."""
    made = nn.ModuleDict()
    for site in sites:
        shape, source = shape_of(site, traced), calls.source_of(site.convolution)
        live = All(shape.in_channels) if source is None else liveness.channels(source)
        made[site.key] = SiteGate(shape, pruning, live)
    return made
