"""One site's gate inside a running network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ftwt.gated.pruning import Pruning
from ftwt.gated.trace import SiteTrace
from ftwt.gates.interface import (
    ReadsMaxima,
    SharesModule,
    follows_input,
    has_constant_weights,
    is_oracle,
)
from ftwt.graph import calls, operations
from ftwt.graph.live import All, Evaluator, Live
from ftwt.graph.liveness import Liveness
from ftwt.graph.sites import Candidate, SiteShape, shape_of
from ftwt.graph.tracing import Traced
from ftwt.targets.interface import (
    RankingTarget,
    Rule,
    channel_scores,
    rule_of,
    without_gradient,
)

Watch = Callable[[str, Tensor, Tensor], Tensor]


class Recorder:
    """Collects what the sites of one pass decide."""

    def __init__(self, *, targets: bool, given: Mapping[str, Tensor] | None = None) -> None:
        self.targets = targets
        self.given = given
        # What the gates' shared module answered, for every site's gate to read.
        self.context: Any = None
        # Told each site's name, and its output before and after the mask; gives the latter back.
        self.watch: Watch | None = None
        self.sites: dict[str, SiteTrace] = {}
        # The last site's output and its channels' maxima, which the next gate may read.
        self.maxima: tuple[Tensor, Tensor] | None = None
        self._waiting: dict[tuple[Any, ...], list[tuple[str, RankingTarget, Tensor]]] = {}

    def target(self, site: str, rule: Rule, features: Tensor) -> Tensor:
        """The target of a site: given, or by the rule."""
        if self.given is not None:
            return self.given[site]
        return without_gradient(rule, "trace").keep(features.detach())

    def rank_later(self, site: str, rule: RankingTarget, scores: Tensor) -> None:
        """Leave a site's target to `finish`, which ranks alike sites in one go."""
        kind = (id(rule), scores.shape[1], scores.dtype, scores.device)
        self._waiting.setdefault(kind, []).append((site, rule, scores))

    def finish(self) -> dict[str, SiteTrace]:
        """What the sites decided, when all have run."""
        for group in self._waiting.values():
            sites, rules, scores = zip(*group, strict=True)
            # A target does not depend on the batch, so sites can share one.
            targets = rules[0].keep(torch.cat(scores)).split([len(one) for one in scores])
            for site, target in zip(sites, targets, strict=True):
                self.sites[site] = self.sites[site]._replace(target=target)
        self._waiting.clear()
        return self.sites


# From a site's name and output to the mask of its filters, (B, C); None runs them all.
Decide = Callable[[str, Tensor], Tensor | None]


@dataclass(frozen=True)
class Decided:
    """Stands in for all gates in one pass."""

    decide: Decide


class SiteGate(nn.Module):
    """One site's gate: masks the site's output, and notes what it decided if asked to.

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
        recorder: Recorder | Decided | None,
        relu: nn.Module | bool = False,
    ) -> Float[Tensor, "B C *space"]:
        """Return the features with the filters that do not run at zero.

        A `relu` is still to be applied to them beforehand: a module, or torch's function (True).
        """
        seen = isinstance(recorder, Decided) or (
            recorder is not None and recorder.watch is not None
        )
        fused = not seen and self._fuses(relu)
        given, features = features, features.detach().relu() if fused else activated(features, relu)
        if isinstance(recorder, Decided):
            mask = recorder.decide(self.site.name, features)
            return features if mask is None else _masked(features, mask)
        pruning = self.pruning
        target, logits, maxima = None, None, None
        oracle = is_oracle(pruning.gate)
        rule, follows = self.target, self.follows
        if oracle and recorder is None:
            target = without_gradient(rule, "trace").keep(features.detach())
        elif recorder is not None and not follows and (oracle or recorder.targets):
            if oracle or recorder.given is not None or not isinstance(rule, RankingTarget):
                target = recorder.target(self.site.name, rule, features)
            elif fused and rule.score == "max" and features.dim() > 2:
                # Nothing is negative here, so a maximum is a magnitude's.
                maxima = features.flatten(2).amax(2)
                recorder.rank_later(self.site.name, rule, maxima)
            else:
                scores = channel_scores(features.detach(), rule.score)
                recorder.rank_later(self.site.name, rule, scores)
        if oracle:
            assert target is not None
            weight = target.to(features.dtype)
        elif follows:
            assert recorder is not None
            mask = self._live_inputs(recorder, features)
            weight, logits = mask.to(features.dtype), mask.float() - 0.5
            target = mask if recorder.targets else None
        else:
            read = self._read(inputs, recorder)
            context = (recorder.context,) if self.asks and recorder is not None else ()
            logits = self.gate(read, *context)
            shifted = logits - self.threshold if self.threshold else logits
            weight = pruning.estimator.weights(shifted, training=self.training)
        masked = _masked_relu(given, features, weight) if fused else _masked(features, weight)
        if recorder is not None:
            if recorder.watch is not None:
                masked = recorder.watch(self.site.name, features, masked)
            recorder.sites[self.site.name] = SiteTrace(weight > 0, weight, logits, target)
            recorder.maxima = None if maxima is None else (masked, _masked(maxima, weight))
        return masked

    @property
    def follows(self) -> bool:
        """Whether the site takes over the mask of its input, for which a pass has to be noted."""
        return follows_input(self.gate)

    def _live_inputs(self, recorder: Recorder, features: Tensor) -> Bool[Tensor, "B C"]:
        masks = {name: site.mask for name, site in recorder.sites.items()}
        every = torch.ones(len(features), 1, dtype=torch.bool, device=features.device)
        return Evaluator(masks, every)(self.live).expand(len(features), -1)

    def _fuses(self, relu: nn.Module | bool) -> bool:
        """Whether a ReLU can run with the mask, as one operation.

        Not where a gradient reaches the weight, for which the features would have to be kept, nor
        where a hook watches the ReLU. A compiler fuses by itself.
        """
        plain = relu is True or (type(relu) is nn.ReLU and not operations.hooked(relu))
        constant = has_constant_weights(self.pruning.estimator) or not torch.is_grad_enabled()
        return plain and constant and not torch.compiler.is_compiling()

    def _read(self, inputs: Tensor, recorder: Recorder | None) -> Tensor:
        """What the gate reads: its input, or its input's maxima where they are known."""
        if self.pruning.coupling == "joint":
            return inputs
        known = recorder.maxima if recorder is not None else None
        if known is not None and known[0] is inputs and isinstance(self.gate, ReadsMaxima):
            return known[1] if self.gate.reads_maxima else inputs.detach()
        return inputs.detach()


def site_gates(
    sites: Iterable[Candidate], traced: Traced, liveness: Liveness, pruning: Pruning
) -> nn.ModuleDict:
    """A new gate for each site, by its key."""
    made = nn.ModuleDict()
    for site in sites:
        shape, source = shape_of(site, traced), calls.source(site.convolution)
        live = All(shape.in_channels) if source is None else liveness.channels(source)
        made[site.key] = SiteGate(shape, pruning, live)
    return made


def activated(features: Tensor, relu: nn.Module | bool = False) -> Tensor:
    """The features after the ReLU that a site's gate is given with them."""
    if isinstance(relu, bool):
        return features.relu() if relu else features
    answer: Tensor = relu(features)
    return answer


def _masked(features: Tensor, weight: Tensor) -> Tensor:
    return features * _spread(weight, features)


def _spread(weight: Tensor, features: Tensor) -> Tensor:
    space = (1,) * (features.dim() - 2)
    return weight.to(features.dtype).view(*weight.shape, *space)


def _masked_relu(features: Tensor, rectified: Tensor, weight: Tensor) -> Tensor:
    """relu(features) * weight, with relu(features) given, which is overwritten."""
    masked: Tensor = _MaskedRelu.apply(features, rectified, _spread(weight, features))
    return masked


class _MaskedRelu(torch.autograd.Function):
    """A ReLU and a mask of zeros and ones keep one tensor between them, and write it twice.

    Where it is not positive, either of them lets no gradient through; elsewhere both do.
    """

    @staticmethod
    def forward(features: Tensor, rectified: Tensor, weight: Tensor) -> Tensor:
        return rectified.mul_(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.mark_dirty(inputs[1])
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (masked,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], masked, 0), None, None
