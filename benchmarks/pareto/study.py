"""What all arms share: the start, the data, the recipe, and a folder of runs that resume."""

import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ftwt import data, losses
from ftwt.budget.static import inner_sites
from ftwt.data import Dataset
from ftwt.gated.pruning import Pruning
from ftwt.io import storage
from ftwt.macs import dense_macs
from ftwt.training import OneCycle, Overrides, Recipe, Sgd, freeze_gates_halfway, runs
from ftwt.training.loop import BeforePhase
from ftwt.training.recipes.best import best_dense


@dataclass(frozen=True)
class Study:
    """One network from one start; every arm trains `epochs` epochs with `seed`."""

    network: str
    source: str
    start: Path
    out: Path
    epochs: int
    seed: int

    @cached_property
    def dataset(self) -> Dataset:
        """All images."""
        return data.load(self.source)

    @cached_property
    def plain(self) -> nn.Module:
        """The dense network with the weights that every arm starts from."""
        return storage.load(self.start)[0]

    @property
    def example(self) -> Tensor:
        """An input, (1, 3, H, W)."""
        return torch.zeros(1, 3, self.dataset.image_size, self.dataset.image_size)

    @cached_property
    def dense_macs(self) -> int:
        """MACs of the dense network for one image."""
        return dense_macs(self.plain, self.example)

    def macs(self, reduction: float) -> float:
        """Exact MACs that are left after a reduction, a fraction."""
        return (1 - reduction) * self.dense_macs

    @cached_property
    def inner_sites(self) -> tuple[str, ...]:
        """Sites that leave residual trunks alone."""
        return inner_sites(self.plain, self.example)

    def recipe(self, pruning: Pruning | None = None) -> Recipe:
        """The recipe of every arm: SGD, one cycle, distillation from the start."""
        return replace(best_dense(self.network, self.overrides), pruning=pruning)

    @property
    def overrides(self) -> Overrides:
        """Epochs and seed."""
        return Overrides(epochs=self.epochs, seed=self.seed)

    def with_gates(self, pruning: Pruning, sites: tuple[str, ...] | None = None) -> Recipe:
        """The same with gates, which learn at their own rate and are frozen halfway."""
        plain = self.recipe(pruning)
        settings = replace(
            plain.settings,
            phases=freeze_gates_halfway(self.epochs),
            gates=Sgd(0.1, schedule=OneCycle(warmup=0.1)),
        )
        objective = plain.objective + losses.GateBCE()
        return replace(plain, settings=settings, objective=objective, sites=sites)

    def folder(self, run: str) -> Path:
        """Where a run of this seed lies."""
        short = self.network.partition("-")[2]
        return self.out / f"{short}-{run}-e{self.epochs}-s{self.seed}"

    def train(self, run: str, recipe: Recipe, init: Path | str) -> "Trained":
        """Train, go on with, or load a run.

        Raises:
            FtwtError: the folder holds a finished run of another recipe.
        """
        return Trained(
            *runs.finished_or_trained(
                recipe,
                self.dataset,
                self.folder(run),
                name=f"pareto {run}",
                init=init,
                callbacks=_WATCH,
            )
        )

    def run(
        self, run: str, recipe: Recipe, before_phase: BeforePhase
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Train a run with gates, or go on with it: its model and its `run.json`."""
        folder = self.folder(run)
        return runs.train_run(
            recipe, self.dataset, folder,
            name=f"pareto {run}", init=self.start, resume=(folder / "run.json").is_file(),
            before_phase=before_phase, callbacks=_WATCH,
        )  # fmt: skip


class Trained(NamedTuple):
    """A network, and the record (`run.json`) of the run that it was made in."""

    model: nn.Module
    run: dict[str, Any]


def _say(row: Any) -> None:
    print(
        f"epoch {row.epoch + 1} ({row.phase}): train {100 * row.train_accuracy:.2f} %, validation "
        f"{100 * row.validation.accuracy:.2f} % at {row.validation.macs:,.0f} MACs, "
        f"{row.images_per_second:.0f} images/s",
        file=sys.stderr,
        flush=True,
    )


_WATCH = runs.Callbacks(epoch=_say)
