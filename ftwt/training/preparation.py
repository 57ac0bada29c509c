"""What a run trains: the network with its starting weights, and the batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ftwt.data import Batches, Dataset, Loaders, Split, holdout
from ftwt.data.batches import evaluation_batches
from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.pruning import Pruning
from ftwt.gated.within import example_inside, gates_in, part_of, with_part
from ftwt.gates import Fixed
from ftwt.graph.arguments import Example
from ftwt.graph.sites import NamesSites, SiteFilter
from ftwt.io import registry, specs, storage
from ftwt.losses import Objective, with_teacher
from ftwt.training import records
from ftwt.training.distributed import world
from ftwt.training.epoch import TrainingBatches
from ftwt.training.initial import (
    TORCHVISION,
    check_classifier,
    starting_weights,
    with_new_head,
)
from ftwt.training.inspection import first
from ftwt.training.recipes import Recipe
from ftwt.training.tasks import Detection, Task, answering

# More than these would make the validation of a million images last too long.
_MOST_HELD_OUT = 25_000


@dataclass(frozen=True)
class Prepared:
    """A network and batches, ready to train.

    Attributes:
        model: gated, or plain for a dense recipe.
        dense: the plain network with the weights that a gated one starts from, if it does.
        objective: the recipe's, taught by that network where it wants a teacher.
        train: this process's share of the training batches.
        validation: its share of the held-out images.
        counts: training and validation images of all processes.
        content: what the data holds, however it was named.
    """

    model: nn.Module
    dense: nn.Module | None
    objective: Objective
    train: TrainingBatches
    validation: Iterable[Any]
    counts: dict[str, int]
    content: dict[str, Any]

    def about(self, recipe: Recipe) -> dict[str, Any]:
        """What a run that goes on from a saved state has to share with the one that saved it."""
        return {
            "ftwt": records.versions()["ftwt"],
            "processes": world().size,
            "recipe": specs.to_json(recipe),
            "data": {**self.counts, **self.content},
        }


def prepare(recipe: Recipe, dataset: Dataset | Loaders, *, init: Path | str | None) -> Prepared:
    """Build a recipe's network on a data set's classes, load its start, and split the images.

    Raises:
        FtwtError: the data has too few classes or images, or `init` is of another network.
    """
    if isinstance(dataset, Dataset) and len(dataset.classes) < 2:
        raise FtwtError(
            f"train: {dataset.name} has one class ({dataset.classes[0]}), there is nothing to tell "
            "apart; give data of two classes or more"
        )
    if recipe.escalation is not None:
        raise FtwtError(
            "train: this recipe spends a budget that each image shares in, so it needs one; give "
            "--reduction, or budget.train_escalated a reduction"
        )
    if isinstance(recipe.task, Detection) and not recipe.inside:
        raise FtwtError(
            "train: a detector does not trace as a whole; say which of its modules gets the gates, "
            'Recipe(..., inside="backbone")'
        )
    images, inputs = _images(recipe, dataset)
    model, dense = _networks(recipe, len(dataset.classes), inputs, init)
    teacher = dense or _dense_start(init, recipe)
    return Prepared(
        model=model,
        dense=dense,
        objective=with_teacher(recipe.objective, teacher and answering(teacher, recipe.task)),
        train=images.train,
        validation=images.validation,
        counts=images.counts,
        content={"classes": list(dataset.classes), "images": images.digest},
    )


class _Served(NamedTuple):
    """Batches of all images of a training, how many there are, and what tells them from others."""

    train: TrainingBatches
    validation: Iterable[Any]
    counts: dict[str, int]
    digest: str


def _images(recipe: Recipe, dataset: Dataset | Loaders) -> tuple[_Served, Any]:
    """A training's batches, and inputs of the network."""
    if isinstance(dataset, Loaders):
        if world().size > 1:
            raise FtwtError(
                f"train: {dataset.name} makes data.Loaders, which many processes cannot share; "
                "train with one, or in Python with training.fit and loaders of their own"
            )
        inputs = _first_inputs(recipe, dataset.train)
        counts = {"train_batches": len(dataset.train)}
        own = _Served(dataset.train, dataset.validation, counts, dataset.digest())
        return own, inputs
    training, held = training_split(dataset)
    validation = evaluation_batches(dataset, held, shard=world())
    counts = {"train_images": len(training), "validation_images": len(held)}
    train = _training_batches(recipe, dataset, training)
    side = dataset.image_size
    return _Served(train, validation, counts, dataset.train.digest()), torch.zeros(1, 3, side, side)


def _first_inputs(recipe: Recipe, train: Iterable[Any]) -> Any:
    """The inputs of the first training batch, which is as large as the recipe says."""
    inputs = inputs_of(train, recipe.task, "train", inside=recipe.inside)
    size = len(inputs) * recipe.settings.accumulate
    if size != recipe.batch_size:
        raise FtwtError(
            f"train: the loader's batches make steps of {size} images, and the recipe says "
            f"batch_size={recipe.batch_size}; give both the same number"
        )
    return inputs


def inputs_of(batches: Iterable[Any], task: Task, called: str, *, inside: str) -> Any:
    """The inputs of the first batch.

    Raises:
        FtwtError: there is none, or they are no tensor where the network as a whole has the gates.
    """
    inputs, _ = next(first(batches, None, called, task))
    if not inside and not isinstance(inputs, Tensor):
        raise FtwtError(
            f"{called}: the inputs are {type(inputs).__name__}, and run folders hold networks of "
            "one tensor, or with gates inside=; train in Python with training.fit"
        )
    return inputs


def example_for(network: nn.Module, inside: str, inputs: Any, task: Task) -> Example:
    """A sample of zeros for the part of a network that gets gates, where it is given `inputs`."""
    if not inside:
        return torch.zeros_like(inputs[:1])
    return example_inside(network, inside, lambda whole: task.ask(whole, inputs[:1], None))


def card_of(recipe: Recipe, dataset: Dataset | Loaders, extra: Mapping[str, Any]) -> storage.Card:
    """What a file of a network that a recipe trains says of it; `extra` beside the data's name."""
    inside = {"inside": recipe.inside} if recipe.inside else {}
    return storage.Card(
        recipe.network_name, len(dataset.classes), dataset.classes, dataset.mean, dataset.std,
        {**extra, **inside, "data": dataset.name},
    )  # fmt: skip


def training_split(dataset: Dataset) -> tuple[Split, Split]:
    """Images to train on and images that are held out for validation.

    The same for every seed: a run may start from one of another seed.
    """
    return holdout(dataset.train, min(0.1, _MOST_HELD_OUT / len(dataset.train)))


def _networks(
    recipe: Recipe, classes: int, inputs: Any, init: Path | str | None
) -> tuple[nn.Module, nn.Module | None]:
    """What is trained, and the plain network with trained weights if that is its start."""
    network = recipe.build(classes)
    part_of(network, recipe.inside)
    weights: dict[str, Tensor] = {}
    if init is not None:
        weights = starting_weights(init, recipe.network_name or "a network of your own")
        if str(init) == TORCHVISION and recipe.pruning is None:
            # They know ImageNet's classes: of other data, the classifier learns anew.
            weights = with_new_head(network, weights)
        check_classifier(network, weights, classes, source=str(init))
    prefix = gates_in(recipe.inside)
    plain = {name: one for name, one in weights.items() if not name.startswith(prefix)}
    finished = recipe.pruning is not None and registry.finisher(recipe.pruning.gate) is not None
    if plain and not finished:
        storage.load_weights(network, plain, source=str(init))
    start = network if plain or recipe.network_name is None else None
    if recipe.pruning is None:
        return network, start
    model = _gated(network, recipe, recipe.pruning, inputs)
    if finished or len(plain) < len(weights):
        if weights:
            storage.load_weights(model, weights, source=str(init))
        return model, None
    return model, start


def _gated(network: nn.Module, recipe: Recipe, pruning: Pruning, inputs: Any) -> nn.Module:
    """A copy of the network with gates where the recipe wants them."""
    example = example_for(network, recipe.inside, inputs, recipe.task)
    gate, finish = pruning.gate, registry.finisher(pruning.gate)
    # As a file of it is loaded.
    first = pruning if finish is None else replace(pruning, gate=Fixed({}))
    where: SiteFilter | None = recipe.sites
    if finish is not None and isinstance(gate, NamesSites):
        where = list(gate.named_sites)

    def change(part: nn.Module) -> nn.Module:
        made = attach(part, first, example=example, where=where)
        return made if finish is None else finish(made, pruning)

    return with_part(network, recipe.inside, change)


def _dense_start(init: Path | str | None, recipe: Recipe) -> nn.Module | None:
    """The plain network that the gated run `init` started from, if it keeps it."""
    kept = Path(init or "") / "dense.safetensors"
    return storage.load(kept, recipe.own_network)[0] if kept.is_file() else None


def _training_batches(recipe: Recipe, dataset: Dataset, training: Split) -> Batches:
    """Batches of which `accumulate` from each process make one step of the recipe's size."""
    parts = world().size * recipe.settings.accumulate
    size = min(recipe.batch_size, len(training))
    if recipe.batch_size % parts or size < parts:
        raise FtwtError(
            f"train: a step's {size} images do not divide into {parts} equal batches "
            f"({world().size} processes, {recipe.settings.accumulate} batches each); give other "
            "numbers, or more images"
        )
    return Batches(
        training,
        size // parts,
        mean=dataset.mean,
        std=dataset.std,
        augment=recipe.augment,
        shuffle=True,
        seed=recipe.settings.seed,
        drop_last=True,
        shard=world(),
    )
