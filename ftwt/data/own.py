"""Data of the user's own: batches of whatever a task takes, and files that make them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from ftwt.data.dataset import Dataset
from ftwt.errors import FtwtError
from ftwt.io.user_code import import_file


@dataclass(frozen=True, eq=False)
class Loaders:
    """Batches of whatever a task takes, in three loaders, such as lists or torch's DataLoaders.

    Each is iterable again and again. Validation and test batches are the same each time. Training
    batches have a length; where they have `set_epoch(epoch)` it is called before each epoch, and an
    interrupted run goes on to the same numbers if their order depends on nothing else.

    Attributes:
        train: batches to learn from; as many images as the recipe's `batch_size` says.
        validation: batches that choose the best epoch.
        test: batches to report on.
        classes: names of the classes, in the order of the labels, or of the numbers of a
            regression; the network is built with as many outputs.
        name: for the records; a file's own path where it came from one.
        mean: of each colour channel, where images were normalised; for the records.
        std: standard deviation of each colour channel, likewise.

    Raises:
        FtwtError: one is no such loader, or there are no names of classes.
    """

    train: Any
    validation: Iterable[Any]
    test: Iterable[Any]
    classes: tuple[str, ...]
    name: str = "loaders"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for called in ("train", "validation", "test"):
            given = getattr(self, called)
            if not hasattr(given, "__iter__") or isinstance(given, Iterator):
                raise FtwtError(
                    f"Loaders: {called} is a {type(given).__name__}, which cannot be iterated "
                    "again and again; give a list of batches, or a DataLoader"
                )
        if not hasattr(self.train, "__len__") or not len(self.train):
            raise FtwtError(
                f"Loaders: train is a {type(self.train).__name__} without a length or batches; "
                "give a list of batches, or a DataLoader of a data set that has a length"
            )
        if isinstance(self.classes, str) or not self.classes:
            raise FtwtError(
                f"Loaders: classes={self.classes!r}; give a tuple of names, one for each output "
                "of the network"
            )
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))

    def digest(self) -> str:
        """A short text that is the same for the same first batch of validation."""
        found = hashlib.sha256()
        first = next(iter(self.validation), None)
        for leaf in tree_leaves(first):
            if isinstance(leaf, Tensor):
                found.update(str((tuple(leaf.shape), leaf.dtype)).encode())
                found.update(leaf.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]


def dataset_of_file(path: Path) -> Dataset | Loaders:
    """What a Python file calls `dataset`, or what the function of that name makes.

    Raises:
        FtwtError: the file does not run, or its `dataset` is missing or something else.
    """
    module = import_file(path, "load")
    made: Any = getattr(module, "dataset", None)
    if callable(made) and not isinstance(made, type):
        try:
            made = made()
        except FtwtError as error:
            raise FtwtError(f"load: dataset() of {path}: {error}") from None
        except Exception as error:
            # The user's own code raises what it likes.
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise FtwtError(f"load: dataset() of {path} fails: {said}") from error
    if not isinstance(made, (Dataset, Loaders)):
        came = f"its `dataset` gives a {type(made).__name__}" if made is not None else "it has none"
        raise FtwtError(
            f"load: {path} should define `dataset`, a function that makes a data.Loaders(train, "
            f"validation, test, classes) or a data.Dataset, and {came}"
        )
    return replace(made, name=str(path))
