"""The kinds of passes through a gated network: who decides at its sites, and what is noted."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ftwt.gated.masking import masked
from ftwt.gated.site_gate import Decision, PendingTarget, SiteGate
from ftwt.gated.trace import SiteTrace
from ftwt.gates.interface import is_oracle, reads_maxima
from ftwt.graph.live import Evaluator
from ftwt.targets.interface import RankingTarget, channel_scores, mask_by, without_gradient

# From a site's name and output to the mask of its filters, (B, C); None runs them all.
MaskOf: TypeAlias = Callable[[str, Tensor], Tensor | None]
# Told each site's name, and its output before and after the mask; gives the latter back.
SiteHook: TypeAlias = Callable[[str, Tensor, Tensor], Tensor]


class PlainPass:
    """The gates decide, and nothing is noted of it."""

    shows_features = False

    def decide(
        self, gate: SiteGate, inputs: Tensor, features: Tensor, *, rectified: bool
    ) -> Decision:
        """What the gate says, or the target of these features."""
        if is_oracle(gate.pruning.gate):
            rule = without_gradient(gate.target, "trace")
            return _by_target(mask_by(rule, rule.keep(features.detach()), features), features)
        return gate.decide(gate.reads(inputs))

    def observe(
        self, gate: SiteGate, decision: Decision, features: Tensor, output: Tensor
    ) -> Tensor:
        """Let it pass."""
        return output


class MaskFunctionPass:
    """A function stands in for all gates, and nothing is noted of it."""

    shows_features = True

    def __init__(self, mask_of: MaskOf) -> None:
        self.mask_of = mask_of

    def decide(
        self, gate: SiteGate, inputs: Tensor, features: Tensor, *, rectified: bool
    ) -> Decision | None:
        """What the function says."""
        mask = self.mask_of(gate.site.name, features)
        return None if mask is None else Decision(mask.to(features.dtype))

    def observe(
        self, gate: SiteGate, decision: Decision, features: Tensor, output: Tensor
    ) -> Tensor:
        """Let it pass."""
        return output


class RecordedPass:
    """The gates decide, and what they do is noted by site, with the targets if they are wanted.

    Targets are `given`, or come from the features of this pass. `context` is what the gates' shared
    module answered, for every site's gate to read.
    """

    shows_features = False

    def __init__(
        self,
        *,
        targets: bool,
        given: Mapping[str, Tensor] | None = None,
        context: Any = None,
    ) -> None:
        self.targets = targets
        self.given = given
        self.context = context
        self.sites: dict[str, SiteTrace] = {}
        # The last site's output and its channels' maxima, which the next gate may read.
        self._maxima: tuple[Tensor, Tensor] | None = None
        self._waiting: dict[tuple[Any, ...], list[tuple[str, PendingTarget]]] = {}

    def decide(
        self, gate: SiteGate, inputs: Tensor, features: Tensor, *, rectified: bool
    ) -> Decision:
        """What the gate, the target or the masks before say, and what the target follows from."""
        if gate.follows:
            return self._by_input(gate, features)
        if is_oracle(gate.pruning.gate):
            return _by_target(self._target(gate, features), features)
        context = (self.context,) if gate.asks else ()
        decision = gate.decide(self._read(gate, inputs), *context)
        if not self.targets:
            return decision
        rule = gate.target
        if self.given is None and isinstance(rule, RankingTarget):
            return decision._replace(ranking=_ranking(rule, features, rectified=rectified))
        return decision._replace(target=self._target(gate, features))

    def observe(
        self, gate: SiteGate, decision: Decision, features: Tensor, output: Tensor
    ) -> Tensor:
        """Note what was decided."""
        weight, logits, target, ranking = decision
        self.sites[gate.site.name] = SiteTrace(weight > 0, weight, logits, target)
        self._maxima = None
        if ranking is None:
            return output
        scores = ranking.scores
        kind = (id(ranking.rule), scores.shape[1], scores.dtype, scores.device)
        self._waiting.setdefault(kind, []).append((gate.site.name, ranking))
        if ranking.maxima:
            self._maxima = output, masked(scores, weight)
        return output

    def finish(self) -> dict[str, SiteTrace]:
        """What the sites decided, when all have run: alike sites are ranked in one go."""
        for group in self._waiting.values():
            sites, rankings = zip(*group, strict=True)
            scores = [one.scores for one in rankings]
            # A target does not depend on the batch, so sites can share one.
            targets = rankings[0].rule.keep(torch.cat(scores)).split([len(one) for one in scores])
            for site, target in zip(sites, targets, strict=True):
                self.sites[site] = self.sites[site]._replace(target=target)
        self._waiting.clear()
        return self.sites

    def _by_input(self, gate: SiteGate, features: Tensor) -> Decision:
        masks = {name: site.mask for name, site in self.sites.items()}
        every = torch.ones(len(features), 1, dtype=torch.bool, device=features.device)
        mask = Evaluator(masks, every)(gate.live).expand(len(features), -1)
        target = mask if self.targets else None
        return Decision(mask.to(features.dtype), mask.float() - 0.5, target)

    def _target(self, gate: SiteGate, features: Tensor) -> Bool[Tensor, "B C"]:
        if self.given is not None:
            return self.given[gate.site.name]
        rule = without_gradient(gate.target, "trace")
        return mask_by(rule, rule.keep(features.detach()), features)

    def _read(self, gate: SiteGate, inputs: Tensor) -> Tensor:
        """What the gate reads: its input, or its input's maxima where they are known."""
        known, alone = self._maxima, gate.pruning.coupling == "decoupled"
        if known is not None and known[0] is inputs and alone and reads_maxima(gate.gate):
            return known[1]
        return gate.reads(inputs)


class HookedPass(RecordedPass):
    """A recorded pass without targets, in which a function is shown what every site does."""

    shows_features = True

    def __init__(self, hook: SiteHook, *, context: Any = None) -> None:
        super().__init__(targets=False, context=context)
        self.hook = hook

    def observe(
        self, gate: SiteGate, decision: Decision, features: Tensor, output: Tensor
    ) -> Tensor:
        """Note what was decided, and go on with what the function gives back."""
        output = self.hook(gate.site.name, features, output)
        return super().observe(gate, decision, features, output)


def _by_target(target: Bool[Tensor, "B C"], features: Float[Tensor, "B C *space"]) -> Decision:
    return Decision(target.to(features.dtype), target=target)


def _ranking(
    rule: RankingTarget, features: Float[Tensor, "B C *space"], *, rectified: bool
) -> PendingTarget:
    if rectified and rule.score == "max" and features.dim() > 2:
        # Nothing is negative here, so a maximum is a magnitude's.
        return PendingTarget(rule, features.flatten(2).amax(2), maxima=True)
    return PendingTarget(rule, channel_scores(features.detach(), rule.score))
