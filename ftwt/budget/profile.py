"""What a network's filters are worth on a set of images, at every amount that could be kept."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ftwt.budget.estimate import Strengths
from ftwt.budget.families import NestedRules, with_amount
from ftwt.errors import FtwtError, check_within
from ftwt.gated.model import Gated
from ftwt.macs import count_grid
from ftwt.targets import Target
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first
from ftwt.training.tasks import Task
from ftwt.training.tasks.batches import moved

Convention = Literal["exact", "paper"]

# Amounts in the grid: denser towards 1, where a little mass is many filters.
_TOP = 400
# Fewer images than this say nothing about others.
_FEWEST = 10
_CHUNK = 500


class Profile:
    """The strengths of all channels on all images of a loader, for a grid of amounts.

    A level is a place in `amounts`, which rise; each site may have its own.
    """

    def __init__(
        self, model: Gated, loader: Loader, base: Target, convention: Convention, task: Task
    ) -> None:
        self.model, self.convention, self.task = model, convention, task
        self.amounts = tuple(round(1 - (1 - k / _TOP) ** 2, 6) for k in range(1, _TOP + 1))
        self.rules = tuple(with_amount(base, amount) for amount in self.amounts)
        family = NestedRules(self.rules, tuple(range(_TOP)))
        found: dict[str, list[Tensor]] = {name: [] for name in model.sites}
        device = next(model.parameters()).device
        meter = task.meter(device)
        with evaluating(model):
            for images, labels in first(loader, None, "solve", task):
                noted = Strengths((family,))
                output = model.forward_with_masks(noted, images.to(device))
                meter.update(task.answer(output), moved(labels, device))
                for name, strengths in noted.strengths[0].items():
                    found[name].append(strengths)
            self.strengths = {name: torch.cat(parts) for name, parts in found.items()}
            self.images = len(next(iter(self.strengths.values())))
            self.curve = self._curve()
        self.dense_accuracy = meter.compute()[task.score]

    @property
    def top_level(self) -> int:
        """The level at which everything is kept that the rule can keep."""
        return _TOP - 1

    def uniform(self, level: int) -> dict[str, int]:
        """The same level at every site."""
        return dict.fromkeys(self.strengths, level)

    def nearest(self, reduction: float) -> int:
        """The level that, at every site, comes nearest to a reduction."""
        return int((self.curve - reduction).abs().argmin())

    def reduction(self, levels: Mapping[str, int]) -> float:
        """The reduction with a level for each site; earlier masks are not applied."""
        total = sum(int(self.counted(masks).sum()) for masks in self._masks(levels))
        return 1 - total / self.images / self.model.dense_macs

    def remaining(self, levels: Mapping[str, int]) -> dict[str, float]:
        """The share of the plain network's MACs that each layer and its gate still cost."""
        plan = self.model.anatomy.plan
        sums = dict.fromkeys((layer.name for layer in plan.layers), 0)
        for masks in self._masks(levels):
            for counts in (plan.exact(masks), plan.gates(masks)):
                for name, macs in counts.items():
                    sums[name] += int(macs.sum())
        return {name: macs / self.images / plan.dense_macs for name, macs in sums.items()}

    def masks(self, levels: Mapping[str, int], places: slice) -> dict[str, Tensor]:
        """The masks of some images, as a plain network's features tell them."""
        return {name: one[places] >= _TOP - levels[name] for name, one in self.strengths.items()}

    def _masks(self, levels: Mapping[str, int]) -> Iterator[dict[str, Tensor]]:
        for start in range(0, self.images, _CHUNK):
            yield self.masks(levels, slice(start, start + _CHUNK))

    def counted(self, masks: Mapping[str, Tensor]) -> Tensor:
        """MACs of each image under these masks, as the profile's convention counts them."""
        plan = self.model.anatomy.plan
        return plan.total(masks) if self.convention == "exact" else plan.paper_total(masks)

    def _curve(self) -> Tensor:
        """The reduction at each level, the same at every site."""
        plan = self.model.anatomy.plan
        total = torch.zeros(_TOP, dtype=torch.float64)
        for start in range(0, self.images, _CHUNK):
            part = {name: one[start : start + _CHUNK] for name, one in self.strengths.items()}
            counts = count_grid(plan, part, _TOP)
            parts = (
                [*counts.layers.values(), *counts.gates.values()]
                if self.convention == "exact"
                else list(counts.paper.values())
            )
            total += torch.stack(parts).sum((0, 1)).cpu().double()
        return 1 - total / self.images / plan.dense_macs


def dearest(shares: Mapping[str, float]) -> str:
    """The three layers that cost most, each with its share of the plain network's MACs."""
    largest = sorted(shares, key=shares.__getitem__, reverse=True)[:3]
    return ", ".join(f"{name} ({100 * shares[name]:.1f} %)" for name in largest)


def check_reduction(reduction: float, called: str) -> None:
    """Raise FtwtError unless it is a share that could be saved."""
    mend = "give the share of MACs to save, for example 0.5"
    check_within(called, "reduction", reduction, "[0, 1)", mend)


def check_rising(called: str, name: str, values: Sequence[float], usual: str) -> None:
    """Raise FtwtError unless there are values, each above the one before."""
    if not values:
        raise FtwtError(f"{called}: no {name}; give at least one, for example {usual}")
    for before, after in pairwise(values):
        if after <= before:
            raise FtwtError(
                f"{called}: {after:g} comes after {before:g} in {name}; give each once, in rising "
                "order"
            )


def check_loader(loader: Loader, called: str) -> None:
    """Raise FtwtError if the loader cannot be read twice."""
    if isinstance(loader, Iterator):
        raise FtwtError(
            f"{called}: loader is a {type(loader).__name__}, which gives its batches once; "
            "give a loader or a list of batches, it is read several times"
        )


def check_images(images: int, called: str) -> None:
    """Raise FtwtError if so few images cannot stand for others."""
    if images < _FEWEST:
        plural = "image says" if images == 1 else "images say"
        raise FtwtError(
            f"{called}: {images} {plural} too little about others; give at least {_FEWEST}, "
            "better some hundreds of the training data"
        )
