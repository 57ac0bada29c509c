"""Target rules that nest: many masses over one site from one ranking of its channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.targets import Adjustable, Ranking, RankingTarget, Score, Target
from ftwt.targets.interface import rank


@dataclass(frozen=True)
class NestedRules:
    """Rules of which each keeps all that the one before keeps, on any features.

    `places` are the rules' places in the list that they were picked from.
    """

    rules: tuple[Target, ...]
    places: tuple[int, ...]

    @property
    def top(self) -> int:
        """How many rules there are: the strength of a channel that all of them keep."""
        return len(self.rules)

    @cached_property
    def _ranking_rules(self) -> list[RankingTarget]:
        # Once: asking a protocol takes as long as a rule's own work.
        return [rule for rule in self.rules if isinstance(rule, RankingTarget)]

    def strengths(self, features: Tensor, rankings: dict[Score, Ranking]) -> Int[Tensor, "B C"]:
        """For each channel the number of rules that keep it.

        `rankings` holds what is ranked already, so that families of one score share it.
        """
        if not self._ranking_rules:
            return self.rules[0].keep(features).to(torch.int16)
        score = self._ranking_rules[0].score
        if score not in rankings:
            rankings[score] = rank(features, score)
        ranking = rankings[score]
        counts = torch.stack([rule.counts(ranking) for rule in self._ranking_rules], 1)
        places = torch.arange(ranking.order.shape[1], device=counts.device)
        # The channel at place i is kept by the rules that keep more than i channels.
        dropping = torch.searchsorted(
            counts, places.expand_as(ranking.order).contiguous(), right=True
        )
        kept = (self.top - dropping).to(torch.int16)
        return torch.zeros_like(kept).scatter(1, ranking.order, kept)


def families(rules: Sequence[Target]) -> tuple[NestedRules, ...]:
    """Sort rules into families; a rule that is not known to nest is one by itself."""
    groups: dict[Target, list[tuple[float, int, Target]]] = {}
    for place, rule in enumerate(rules):
        base, amount = base_and_amount(rule)
        groups.setdefault(base, []).append((amount, place, rule))
    return tuple(
        NestedRules(
            tuple(rule for _, _, rule in sorted(group, key=_amount)),
            tuple(place for _, place, _ in sorted(group, key=_amount)),
        )
        for group in groups.values()
    )


def base_and_amount(rule: Target) -> tuple[Target, float]:
    """A rule as a base and how much it keeps: rules of one base nest as the amount rises."""
    return (rule.with_amount(1.0), rule.amount) if isinstance(rule, Adjustable) else (rule, 1.0)


def with_amount(base: Target, amount: float) -> Target:
    """The rule of a base that keeps so much.

    Raises:
        FtwtError: the base has no amount that could be chosen.
    """
    if not isinstance(base, Adjustable):
        raise FtwtError(
            f"solve: {base!r} keeps no amount that could be chosen; "
            "give Pruning a target of targets.HeatmapMass or targets.TopK"
        )
    return base.with_amount(amount)


def check_distinct(rules: Sequence[Target], called: str) -> None:
    """Raise FtwtError unless there are rules, each once, and each family in rising order."""
    if not rules:
        raise FtwtError(
            f"{called}: no target rules; give at least one, for example [targets.HeatmapMass(0.9)]"
        )
    last: dict[Target, float] = {}
    for rule in rules:
        base, amount = base_and_amount(rule)
        before = last.get(base, 0.0)
        if before == amount:
            raise FtwtError(f"{called}: {_short(rule)} is given twice; give each once")
        if before > amount:
            raise FtwtError(
                f"{called}: {_short(rule)} comes after {before:g}; give masses and fractions "
                "in rising order"
            )
        last[base] = amount


def _short(rule: Target) -> str:
    return f"{rule.amount_name} {rule.amount:g}" if isinstance(rule, Adjustable) else repr(rule)


def _amount(entry: tuple[float, int, Target]) -> tuple[float, int]:
    return entry[:2]
