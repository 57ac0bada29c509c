"""What a target rule is, and the scores and ranks that the rules share."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ftwt.errors import FtwtError, check_choice, what_came

Score = Literal["max", "mean", "l2"]


@runtime_checkable
class Target(Protocol):
    """Decides from a site's output which filters should have run.

    Those of ftwt can be called, too, and then answer what `keep` does.
    """

    def keep(self, features: Float[Tensor, "B C *space"]) -> Bool[Tensor, "B C"]:
        """Return True for each filter to keep; at least one a sample."""
        ...


@runtime_checkable
class GradientTarget(Protocol):
    """A target that needs to know how the task's loss depends on a site's output.

    Training asks for it in a pass of its own, without changing any weight. The gradient is that of
    the loss with respect to the output after its mask, under `target_source="dense"` or "teacher"
    without any mask. Such a target needs no `keep`.
    """

    def keep_by_gradient(
        self, features: Float[Tensor, "B C *space"], gradient: Float[Tensor, "B C *space"]
    ) -> Bool[Tensor, "B C"]:
        """Return True for each filter to keep; at least one a sample."""
        ...


@runtime_checkable
class SiteTarget(Protocol):
    """A target that is another one at each site."""

    def for_site(self, site: str) -> "Rule":
        """The target of a site, by its name."""
        ...


Rule: TypeAlias = Target | GradientTarget


def rule_of(target: Rule, site: str) -> Rule:
    """The target of a site."""
    return target.for_site(site) if isinstance(target, SiteTarget) else target


def mask_by(rule: Rule, kept: object, features: Tensor) -> Bool[Tensor, "B C"]:
    """What a rule answered for features, if it is a mask.

    Raises:
        FtwtError: it is no boolean for each filter of each sample.
    """
    is_mask = isinstance(kept, Tensor) and kept.dtype == torch.bool and kept.dim() == 2
    if isinstance(kept, Tensor) and is_mask and kept.shape[1] == features.shape[1]:
        return kept
    raise FtwtError(
        f"trace: the target {type(rule).__name__} answers {what_came(kept)}, expected one boolean "
        f"for each filter of each sample, {tuple(features.shape[:2])}; reduce over space and "
        "compare, such as features.amax((2, 3)) > 0"
    )


def without_gradient(rule: Rule, called: str) -> Target:
    """A target that features alone tell.

    Raises:
        FtwtError: it needs the gradient of a loss, which only training has.
    """
    if isinstance(rule, Target):
        return rule
    raise FtwtError(
        f"{called}: {type(rule).__name__} needs the gradient of the task's loss, which only "
        "training has; give a target of features alone, such as targets.HeatmapMass(0.9)"
    )


@runtime_checkable
class Adjustable(Protocol):
    """A target that keeps a certain amount: all that it keeps at one, it keeps at a larger one."""

    @property
    def amount_name(self) -> str:
        """What the amount is called, such as "mass"."""
        ...

    @property
    def amount(self) -> float:
        """The amount, in (0, 1]."""
        ...

    def with_amount(self, amount: float) -> Target:
        """The same target with another amount."""
        ...


def amount_of(rule: object, name: str) -> float | None:
    """How much a rule keeps, if that is what it calls its amount."""
    return rule.amount if isinstance(rule, Adjustable) and rule.amount_name == name else None


class Ranking(NamedTuple):
    """A site's channels by falling score, for each sample, and the scores' running sums."""

    order: Int[Tensor, "B C"]
    scores: Float[Tensor, "B C"]
    cumulative: Float[Tensor, "B C"]


@runtime_checkable
class RankingTarget(Protocol):
    """A target that keeps the first so many channels by score.

    Several of them over one site share its ranking, so that a grid of masses costs one sort.
    """

    @property
    def score(self) -> Score:
        """How channels are scored."""
        ...

    def counts(self, ranking: Ranking) -> Int[Tensor, "B"]:
        """Return how many channels each sample keeps."""
        ...

    def keep(self, features: Float[Tensor, "B C *space"]) -> Bool[Tensor, "B C"]:
        """As every target; what it keeps depends on the scores alone."""
        ...


def _norm(order: float) -> Callable[[Tensor], Tensor]:
    def norm(features: Tensor) -> Tensor:
        # One pass and no |features| in memory; float32 whatever the input, so that bfloat16
        # features are ranked by the same rule.
        flat = features.flatten(2)
        kind = torch.promote_types(flat.dtype, torch.float32)
        scores: Tensor = torch.linalg.vector_norm(flat, order, dim=2, dtype=kind)
        return scores

    return norm


def _largest(features: Tensor) -> Tensor:
    # Ten times as fast on a CPU as the norm of infinite order, and no |features| in memory.
    flat = features.flatten(2)
    scores = torch.maximum(flat.amax(2), -flat.amin(2))
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


SCORES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max": _largest,
    "mean": lambda features: _norm(1)(features) / max(1, features[0, 0].numel()),
    "l2": _norm(2),
}


def check_score(rule: str, score: str) -> None:
    """Raise FtwtError unless `score` names a channel score."""
    check_choice(rule, "score", score, SCORES)


def channel_scores(
    features: Float[Tensor, "B C *space"], score: Score = "max"
) -> Float[Tensor, "B C"]:
    """Score each channel by the max, mean or L2 norm of its magnitude over space.

    The max of |O| is the score of FTWT (arXiv 2110.08232, section 3).
    """
    if features.dim() == 2:
        return features.abs().to(torch.promote_types(features.dtype, torch.float32))
    return SCORES[score](features)


def rank(features: Float[Tensor, "B C *space"], score: Score) -> Ranking:
    """Order a site's channels; sums are in float64, whatever the features are."""
    scores = channel_scores(features, score)
    order = descending(scores)
    ranked = scores.gather(1, order).double()
    return Ranking(order, ranked, ranked.cumsum(1))


def descending(scores: Float[Tensor, "B C"]) -> Int[Tensor, "B C"]:
    """Order channels by falling score, none negative; ties go to the lower index."""
    if (
        scores.device.type != "cpu"
        or scores.dtype != torch.float32
        or torch.compiler.is_compiling()
    ):
        return torch.argsort(scores, dim=1, descending=True, stable=True)
    # On a CPU numpy sorts integers several times as fast as torch sorts anything. The bits of
    # floats that are not negative rise as the floats do, so a score and its channel make one
    # integer, of which no two are the same.
    channels = torch.arange(scores.shape[1])
    keys = channels - (scores.detach().abs().view(torch.int32).long() << 32)
    return torch.from_numpy(np.sort(keys.numpy(), axis=1)) & 0xFFFFFFFF


def keep_first(order: Int[Tensor, "B C"], counts: Int[Tensor, "#B"]) -> Bool[Tensor, "B C"]:
    """Mask that keeps the first `counts` channels of `order` in each sample."""
    places = torch.arange(order.shape[1], device=order.device)
    kept = places < counts[:, None]
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, order, kept.expand_as(order))
