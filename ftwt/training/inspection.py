"""What all measurements share: batches of a loader, and checks of their input."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from ftwt.errors import FtwtError, listed
from ftwt.gated.model import Gated
from ftwt.gated.within import held_in
from ftwt.training.tasks import LABELLED, Task

if TYPE_CHECKING:
    from ftwt.data import Dataset, Loaders
    from ftwt.io.storage import Card

# Batches of whatever a task has, such as (images, labels).
Loader = Iterable[Any]


def pairs(loader: Iterable[Any], called: str, task: Task = LABELLED) -> Iterator[tuple[Any, Any]]:
    """The loader's batches: inputs, and what is wanted, such as labels.

    Raises:
        FtwtError: a batch is something else than the task has.
    """
    for batch in loader:
        yield task.pair(batch, called)


def first(
    loader: Loader, limit: int | None, called: str, task: Task = LABELLED
) -> Iterator[tuple[Any, Any]]:
    """The loader's batches, up to `limit` images.

    Raises:
        FtwtError: `limit` is below 1, or the loader gives no image.
    """
    if limit is not None and limit < 1:
        raise FtwtError(f"{called}: limit={limit}; give 1 image or more, or None for all")
    seen = 0
    for images, labels in pairs(loader, called, task):
        rest = len(images) if limit is None else min(len(images), limit - seen)
        seen += rest
        if rest:
            yield images[:rest], labels[:rest]
        if seen == limit:
            return
    if seen == 0:
        raise FtwtError(f"{called}: the loader gave no images; give at least one batch")


def check_gated(model: nn.Module, called: str) -> None:
    """Raise FtwtError unless the network is gated as a whole."""
    if isinstance(model, Gated):
        return
    held = held_in(model) if isinstance(model, nn.Module) else None
    if held is None:
        raise without_gates(model, called)
    raise FtwtError(
        f"{called}: {type(model).__name__} is gated in its {held[0]}, and this takes networks that "
        f"are gated as a whole; give model.{held[0]}, with a loader of its inputs"
    )


def without_gates(model: object, called: str) -> FtwtError:
    """What to say of a network without gates."""
    return FtwtError(
        f"{called}: {type(model).__name__} has no gates; "
        "give a gated network, which ftwt.attach(network, pruning, example=...) makes"
    )


def check_classes(run: str, card: "Card", dataset: "Dataset | Loaders") -> None:
    """Raise FtwtError unless the data has the classes that a saved model knows."""
    known, here = card.classes, dataset.classes
    if len(here) == card.num_classes and known in ((), here):
        return
    lacking = [one for one in known if one not in here]
    new = [one for one in here if one not in known] if known else []
    told = [f"{run} knows other classes than {dataset.name} has"]
    if card.num_classes != len(here):
        told = [f"{run} knows {card.num_classes} classes, {dataset.name} has {len(here)}"]
    told += [f"the run alone has {listed(lacking)}"] if lacking else []
    told += [f"{dataset.name} alone has {listed(new)}"] if new else []
    if known and not lacking and not new:
        told += [f"in another order: {listed(known)}, and {listed(here)}"]
    raise FtwtError(f"{'; '.join(told)}; give the data that it was trained on")


def as_trained(run: str, card: "Card", dataset: "Dataset") -> "Dataset":
    """The data with the pixel statistics that a saved model was trained with.

    Raises:
        FtwtError: it has other classes than the model knows.
    """
    check_classes(run, card, dataset)
    mean, std = card.mean or dataset.mean, card.std or dataset.std
    return replace(dataset, mean=mean, std=std)  # type: ignore[arg-type]


def check_site(model: Gated, site: str, called: str) -> None:
    """Raise FtwtError, with names that are near, unless the network has the site."""
    if site in model.sites:
        return
    near = difflib.get_close_matches(site, model.sites, n=3, cutoff=0.4) or model.sites[:5]
    raise FtwtError(
        f"{called}: no site is named {site!r}; did you mean {' or '.join(near)}? "
        f"model.sites names all {len(model.sites)}"
    )
