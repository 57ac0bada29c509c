"""Spending a budget where it hurts least: a mass for each layer, greedily."""

import heapq
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ftwt.budget.profile import Profile
from ftwt.gated.trace import Trace
from ftwt.targets import Target
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first
from ftwt.training.tasks.batches import moved

# Levels that each site is tried at, and images that it is tried on.
_STEPS = 6
_IMAGES = 256
# A step that costs no loss is taken first, whatever it saves.
_NOTHING = 1e-6


class Greedy:
    """Lowers one site by one step at a time: the most MACs for the least rise of the loss.

    The rise is measured for each site by itself, with every other filter on; rises of several
    sites are taken to add up.
    """

    def __init__(self, profile: Profile, loader: Loader) -> None:
        self._profile = profile
        most, least = float(profile.curve[0]), float(profile.curve[-1])
        wanted = [least + (most - least) * step / _STEPS for step in range(1, _STEPS)]
        # From keeping all to keeping the least.
        steps = [profile.top_level, *map(profile.nearest, wanted), 0]
        self._steps = sorted(set(steps), reverse=True)
        self.losses = _losses(profile, loader, [profile.rules[level] for level in self._steps])

    def levels(self, reduction: float) -> dict[str, int]:
        """A level for each site that together reach a reduction, or the lowest of all."""
        profile, steps = self._profile, self._steps
        place = dict.fromkeys(profile.strengths, 0)
        levels = profile.uniform(steps[0])
        reached = profile.reduction(levels)
        # By what a step gains, as last computed: gains fall as neighbours lose filters, so only
        # the best is computed again.
        waiting = [(-float("inf"), name) for name in place]
        heapq.heapify(waiting)
        while reached < reduction and waiting:
            _, name = heapq.heappop(waiting)
            lower = {**levels, name: steps[place[name] + 1]}
            after = profile.reduction(lower)
            rise = self.losses[name][place[name] + 1] - self.losses[name][place[name]]
            gain = (after - reached) / max(rise, _NOTHING)
            if waiting and gain < -waiting[0][0]:
                heapq.heappush(waiting, (-gain, name))
                continue
            if after >= reduction:
                return self._shortened(levels, name, lower[name], reduction)
            levels, reached = lower, after
            place[name] += 1
            if place[name] + 1 < len(steps):
                heapq.heappush(waiting, (-gain, name))
        return levels

    def _shortened(
        self, levels: dict[str, int], name: str, lowest: int, reduction: float
    ) -> dict[str, int]:
        """The last step only as far down as the budget asks for."""
        low, high = lowest, levels[name]
        while high - low > 1:
            middle = (low + high) // 2
            if self._profile.reduction({**levels, name: middle}) >= reduction:
                low = middle
            else:
                high = middle
        return {**levels, name: low}


def _losses(
    profile: Profile, loader: Loader, rules: Sequence[Target]
) -> Mapping[str, tuple[float, ...]]:
    """For each site the task's loss with that site alone under each rule.

    Never falling from rule to rule: a loss that falls as filters leave is chance.
    """
    model, objective = profile.model, profile.task.loss()
    device = next(model.parameters()).device
    sums = {name: torch.zeros(len(rules), dtype=torch.float64) for name in profile.strengths}
    with evaluating(model):
        for images, labels in first(loader, _IMAGES, "solve", profile.task):
            images, labels = moved(images, device), moved(labels, device)
            for name, total in sums.items():
                for place, rule in enumerate(rules):

                    def alone(
                        site: str, features: Tensor, name: str = name, rule: Target = rule
                    ) -> Tensor | None:
                        return rule.keep(features) if site == name else None

                    output = model.forward_with_masks(alone, images)
                    trace = Trace(
                        profile.task.answer(output), {}, (images,), lambda _: model.anatomy.plan
                    )
                    total[place] += float(objective(trace, labels).total) * len(labels)
    images_used = min(_IMAGES, profile.images)
    return {
        name: tuple((total / images_used).cummax(0).values.tolist()) for name, total in sums.items()
    }
