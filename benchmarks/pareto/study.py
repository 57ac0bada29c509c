"""What all arms share: the start, the data, the recipe, and a folder of runs that resume."""

import json
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ftwt import data, losses
from ftwt.budget import named
from ftwt.data import Dataset
from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates import Fixed
from ftwt.graph.operations import Kind, kind_of
from ftwt.io import specs, storage
from ftwt.macs import dense_macs
from ftwt.training import OneCycle, Phase, Recipe, Settings, Sgd, freeze_gates_halfway, runs
from ftwt.training.inspection import Loader
from ftwt.training.loop import BeforePhase
from ftwt.training.preparation import split

# Training images, spread over the classes, by which filters are ranked.
_RANKED_ON = 2000


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

    @property
    def validation(self) -> Loader:
        """Images held out of training."""
        return named.validation(self.dataset, self.dataset.mean, self.dataset.std)

    @property
    def ranked_on(self) -> Loader:
        """Some training images, as they are, to choose filters by."""
        training, _ = split(self.dataset)
        return named.served(training, self.dataset.mean, self.dataset.std, limit=_RANKED_ON)

    @cached_property
    def dense_macs(self) -> int:
        """MACs of the dense network for one image."""
        return dense_macs(self.plain, self.example)

    def macs(self, reduction: float) -> float:
        """Exact MACs that are left after a reduction, a fraction."""
        return (1 - reduction) * self.dense_macs

    @cached_property
    def inner_sites(self) -> tuple[str, ...]:
        """Sites whose output is no part of a sum: their filters leave a residual trunk alone."""
        whole = attach(self.plain, Pruning(Fixed({})), example=self.example)
        traced = whole.anatomy.traced
        return tuple(
            site.name
            for site in whole.anatomy.sites
            if not any(
                kind_of(user, traced.module(user)) is Kind.UNION for user in site.output.users
            )
        )

    def gated(self, pruning: Pruning) -> Gated:
        """The start with gates at the inner sites."""
        return attach(self.plain, pruning, example=self.example, where=self.inner_sites)

    def recipe(self, pruning: Pruning | None = None) -> Recipe:
        """The recipe of every arm: SGD, one cycle, distillation from the start."""
        settings = Settings(
            (Phase("train", self.epochs),),
            Sgd(0.05, weight_decay=5e-4, schedule=OneCycle(warmup=0.1)),
            amp="auto",
            channels_last=True,
            seed=self.seed,
        )
        objective = losses.CrossEntropy() + losses.Distillation()
        return Recipe(self.network, settings, objective, pruning)

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

    def train(self, run: str, recipe: Recipe, init: Path) -> "Trained":
        """Train, go on with, or load a run.

        Raises:
            FtwtError: the folder holds a finished run of another recipe.
        """
        folder = self.folder(run)
        record = _read(folder)
        if record.get("status") != "finished":
            return Trained(*self.run(run, recipe, init))
        if specs.renewed(record["specification"]) != specs.recorded(recipe):
            raise FtwtError(f"pareto: {folder} holds another recipe's run; give a new --out")
        return Trained(storage.load(folder)[0], record)

    def run(
        self, run: str, recipe: Recipe, init: Path, before_phase: BeforePhase | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Train a run, or go on with it: its model and its `run.json`."""
        folder = self.folder(run)
        return runs.train_run(
            recipe, self.dataset, folder,
            name=f"pareto {run}", init=init, resume=bool(_read(folder)),
            before_phase=before_phase, watch=_WATCH,
        )  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A network, and the record (`run.json`) of the run that it was made in."""

    model: nn.Module
    run: dict[str, Any]


def _read(folder: Path) -> dict[str, Any]:
    file = folder / "run.json"
    record: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return record


def _say(row: Any) -> None:
    print(
        f"epoch {row.epoch + 1} ({row.phase}): train {100 * row.train_accuracy:.2f} %, validation "
        f"{100 * row.validation.accuracy:.2f} % at {row.validation.macs:,.0f} MACs, "
        f"{row.images_per_second:.0f} images/s",
        file=sys.stderr,
        flush=True,
    )


_WATCH = runs.Watch(epoch=_say)
