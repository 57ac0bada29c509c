"""Training what a report needs ahead of it, by any executor."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftwt import data
from ftwt.budget.executors import run_all
from ftwt.errors import FtwtError, listed
from ftwt.reports.paper.item import Item
from ftwt.reports.paper.scales import Scale
from ftwt.reports.paper.study import Study, Training


@dataclass(frozen=True)
class TrainingOrder:
    """One training, and what a process needs to know to do it by itself."""

    folder: Path
    data: str
    size: int
    scale: Scale
    seed: int
    training: Training

    def follow(self) -> None:
        """Train it in the study's folder, or go on with it."""
        dataset = data.load(self.data, size=self.size, seed=0)
        Study(self.folder, dataset, self.scale, seed=self.seed).train(self.training)


def train_ahead(study: Study, wanted: Sequence[Item[Any]], executor: Executor) -> None:
    """Train what is known beforehand that items need: plain networks, then what starts from them.

    What an item finds out from other runs first is left for later, and trained one by one.

    Raises:
        FtwtError: a training failed, or its worker is gone; the others are finished.
    """
    ahead: dict[str, Training] = {}
    for item in wanted:
        ahead |= study.planned(item.train)
    size = study.dataset.image_size
    for gated in (False, True):
        orders = {
            TrainingOrder(
                study.folder, study.dataset.name, size, study.scale, study.seed, one
            ): name
            for name, one in ahead.items()
            if (one.pruning is not None) == gated
        }
        failed = run_all(executor, TrainingOrder.follow, orders, lambda order: None)
        if failed:
            raise FtwtError(
                f"paper: {listed(failed, most=1)}; what else was trained is kept, call again to "
                "train the rest"
            )
