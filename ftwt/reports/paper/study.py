"""A study: one data set, and the runs that the tables and figures look at."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ftwt.data import Dataset, Split, holdout
from ftwt.data.batches import evaluation_batches
from ftwt.data.splits import limited
from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Coupling, Pruning
from ftwt.gates.interface import is_static
from ftwt.io import specs
from ftwt.losses import CrossEntropy, Objective
from ftwt.macs import dense_macs
from ftwt.reports.paper.runs import RecordedRun, read_run
from ftwt.reports.paper.scales import Effort, Scale
from ftwt.targets import HeatmapMass
from ftwt.training.activity import Activity, activity
from ftwt.training.evaluation import Evaluation, evaluate
from ftwt.training.folders import status
from ftwt.training.inspection import Loader, check_classes
from ftwt.training.optimizers import Sgd
from ftwt.training.recipes import Overrides, Recipe, recipe
from ftwt.training.runs import Callbacks, train_run


@dataclass(frozen=True)
class Training:
    """One training of a study, plain or gated; `name` is its folder's."""

    name: str
    network: str
    pruning: Pruning | None = None
    seed: int = 0
    # Trained with fewer images and epochs, as the networks of `Scale.families` are.
    family: bool = False
    init: Path | None = None


@dataclass(eq=False)
class Study:
    """One data set, and the finished runs that the tables and figures look at.

    Runs are trained into `folder`/runs, once: what is finished there is read, what was interrupted
    goes on. Plain networks among `starts` are taken instead of trained. With `given` runs nothing
    is trained.
    """

    folder: Path
    dataset: Dataset
    scale: Scale
    given: tuple[RecordedRun, ...] = ()
    starts: tuple[RecordedRun, ...] = ()
    seed: int = 0
    layer: str | None = None
    places: tuple[int, ...] | None = None
    callbacks: Callable[[str, int], Callbacks] = lambda name, epochs: Callbacks()
    _trained: dict[str, RecordedRun] = field(default_factory=dict)
    _measured: dict[Path, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for run in (*self.given, *self.starts):
            check_classes(f"paper: {run.folder}", run.card, self.dataset)

    @property
    def runs(self) -> tuple[RecordedRun, ...]:
        """All runs, the given ones or those trained so far, in that order."""
        return self.given or tuple(self._trained.values())

    def main(self) -> tuple[RecordedRun, Gated]:
        """The run that is looked at closely: the first one with gates.

        Raises:
            FtwtError: no run has gates.
        """
        for run in self.runs:
            if run.gated is not None:
                return run, run.gated
        names = ", ".join(run.name for run in self.runs) or "none"
        raise FtwtError(
            f"paper: no run has gates that choose for each image (runs: {names}); "
            "give one that ftwt train made without --dense"
        )

    @property
    def example(self) -> Tensor:
        """One black image of the data's size."""
        return torch.zeros(1, 3, self.dataset.image_size, self.dataset.image_size)

    @property
    def test(self) -> Split:
        """The test images, or as many of each class as the scale takes."""
        return limited(self.dataset.test, self.scale.test_images)

    def batches(self, images: Split) -> Loader:
        """Images as a network takes them."""
        return evaluation_batches(self.dataset, images)

    @property
    def validation(self) -> Loader:
        """A few of the images held out of training, to choose by."""
        held = holdout(limited(self.dataset.train, self.scale.effort.images))[1]
        return self.batches(limited(held, self.scale.few_images))

    def tested(self, run: RecordedRun) -> Activity | Evaluation:
        """A run's accuracy and cost on the test images, measured once."""
        if run.folder not in self._measured:
            self._measured[run.folder] = self.measure(run.model)
        found: Activity | Evaluation = self._measured[run.folder]
        return found

    def start_accuracy(self, run: RecordedRun) -> float:
        """Accuracy on the test images of the plain network that a run started from."""
        key = run.folder / "dense.safetensors"
        if key not in self._measured:
            self._measured[key] = self.measure(run.start()).accuracy
        accuracy: float = self._measured[key]
        return accuracy

    def measure(self, model: nn.Module) -> Activity | Evaluation:
        """A network's accuracy and cost on the test images."""
        batches = self.batches(self.test)
        if isinstance(model, Gated):
            return activity(model, batches)
        return evaluate(model, batches, dense_macs=dense_macs(model, self.example))

    def planned(self, train: Callable[["Study"], None]) -> dict[str, Training]:
        """Trainings that an item asks for before it looks at any run, by name."""
        scout = _Scout(self.folder, self.dataset, self.scale, self.given, self.starts, self.seed)
        # It looks at a run that there is not yet.
        with suppress(_Unknown):
            train(scout)
        return scout.asked

    def train(self, training: Training) -> RecordedRun:
        """The finished run of a training: from the study's folder, or trained now.

        Raises:
            FtwtError: the folder holds a run of that name with another specification.
        """
        if training.name in self._trained:
            return self._trained[training.name]
        out = self.folder / "runs" / training.name
        made = self._recipe(training)
        begun = out.is_dir()
        if begun and (out / "run.json").is_file() and status(out) == "finished":
            run = read_run(out)
            _check_same(run, made)
        else:
            epochs = sum(phase.epochs for phase in made.settings.phases)
            train_run(
                made,
                self._data(training),
                out,
                name=self._effort(training).recipe,
                init=training.init,
                resume=begun,
                callbacks=self.callbacks(training.name, epochs),
            )
            run = read_run(out)
        self._trained[training.name] = run
        return run

    def dense(self, network: str, *, family: bool = False) -> RecordedRun:
        """The plain network, given or trained once for all of its gated ones."""
        for run in self.starts:
            if run.network == network and run.how == "plain":
                return self._trained.setdefault(run.name, run)
        return self.train(Training(f"{without_data(network)}-dense", network, family=family))

    def gated(
        self, network: str, pruning: Pruning, label: str, *, seed: int = 0, family: bool = False
    ) -> RecordedRun:
        """A gated network that starts from the plain one; `label` tells it from its like."""
        init = self.dense(network, family=family).folder
        name = f"{without_data(network)}-{label}-{pruning.coupling}-seed{seed}"
        return self.train(Training(name, network, pruning, seed, family, init))

    def by_mass(
        self,
        mass: float,
        family: str | None = None,
        *,
        coupling: Coupling = "decoupled",
        seed: int = 0,
    ) -> RecordedRun:
        """The scale's network, or that of a family, gated by heatmap mass."""
        pruning = Pruning(target=HeatmapMass(mass), coupling=coupling)
        network, is_family = family or self.scale.network, family is not None
        return self.gated(network, pruning, f"mass{mass:g}", seed=seed, family=is_family)

    def _effort(self, training: Training) -> Effort:
        return self.scale.family_effort if training.family else self.scale.effort

    def _recipe(self, training: Training) -> Recipe:
        effort, plain = self._effort(training), training.pruning is None
        epochs = effort.dense_epochs if plain else effort.gated_epochs
        overrides = Overrides(epochs=epochs, seed=training.seed + self.seed)
        made = recipe(effort.recipe, overrides, dense=plain)
        made = replace(made, network=training.network, pruning=training.pruning)
        if plain and effort.dense_lr is not None:
            assert isinstance(made.settings.backbone, Sgd)
            backbone = replace(made.settings.backbone, lr=effort.dense_lr)
            made = replace(made, settings=replace(made.settings, backbone=backbone))
        if made.pruning is not None and is_static(made.pruning.gate):
            # Masks that are given have nothing to learn.
            made = replace(made, objective=Objective.of(CrossEntropy()))
        return made

    def _data(self, training: Training) -> Dataset:
        images = limited(self.dataset.train, self._effort(training).images)
        return replace(self.dataset, train=images)


class _Unknown(Exception):
    """A run was looked at that is not trained yet."""


class _Untrained(RecordedRun):
    """A run that is only planned: its folder is known."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("folder", "__class__", "__dict__"):
            return object.__getattribute__(self, name)
        raise _Unknown(name)


@dataclass(eq=False)
class _Scout(Study):
    """Notes trainings instead of doing them."""

    asked: dict[str, Training] = field(default_factory=dict)

    def train(self, training: Training) -> RecordedRun:
        self.asked[training.name] = training
        return _Untrained(self.folder / "runs" / training.name, None, None, {})  # type: ignore[arg-type]


def without_data(network: str) -> str:
    """A network's name without that of the data that it was made for."""
    return network.partition("-")[2] or network


def _check_same(run: RecordedRun, made: Recipe) -> None:
    was, now = specs.renewed(run.record["specification"]), specs.recorded(made)
    if was != now:
        differs = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
        raise FtwtError(
            f"paper: {run.folder} was trained by another recipe, it differs in "
            f"{', '.join(differs)}; give a new folder"
        )
