"""Data sets by name."""

from __future__ import annotations

import os
from pathlib import Path

from ftwt.data import shapes
from ftwt.data.dataset import Dataset, Only, Progress
from ftwt.data.images import Images, channel_statistics
from ftwt.data.own import Loaders, dataset_of_file
from ftwt.data.splits import balanced_prefix
from ftwt.errors import FtwtError, check_whole
from ftwt.io.user_code import is_file

KNOWN = (
    "shapes", "cifar10", "cifar10:DIR", "cifar100", "cifar100:DIR", "imagefolder:DIR",
    "imagenet:DIR", "FILE.py",
)  # fmt: skip


def load(
    name: str,
    *,
    root: Path | None = None,
    size: int | None = None,
    limit: int | None = None,
    only: Only | None = None,
    seed: int = 0,
    workers: int | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set, into memory or, for `imagenet`, to be read while it is served.

    | name | images |
    |---|---|
    | `shapes` | 8,000 and 2,000 figures of ten classes that the library draws itself |
    | `cifar10`, `cifar100` | torchvision's, downloaded to `root` when they are not there |
    | `cifar10:DIR`, `cifar100:DIR` | the same, kept in DIR |
    | `imagefolder:DIR` | DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE, or val/ without test/ |
    | `imagenet:DIR` | the same with val/ before test/, of any size, decoded by worker processes |
    | `FILE.py` | what the file's `dataset()` makes, a `Dataset`; for `Loaders` see `load_any` |

    Args:
        name: a name of the table.
        root: folder that a relative DIR starts from, and that downloads go to; if None the current
            folder and `ftwt` in the user's cache.
        size: side of the images in pixels. Folder images are resized by their shorter side and
            cropped at the centre; CIFAR images resized; shapes drawn at that size. None keeps the
            images' own size, which has to be the same for all; for `imagenet` 224.
        limit: keep only this many training images, a fixed choice that is spread evenly over the
            classes; a smaller limit keeps a subset of a larger one.
        only: load only this split and leave the other one empty. Mean and standard deviation are
            those of the training images where these are loaded, else of the test images.
        seed: chooses the images of `shapes`; nothing else depends on it.
        workers: processes that decode the images of `imagenet`; by default one for each CPU core,
            8 at most, shared by the processes of a job.
        download: whether CIFAR may be downloaded.
        progress: called with (images ready, images in all) while images are drawn or decoded.

    Raises:
        FtwtError: the name is unknown, images are missing or unreadable or differ in size, or
            `size` or `limit` is too small.
    """
    for option, value in (("size", size), ("limit", limit)):
        if value is not None:
            check_whole("load", option, value)
    if is_file(name):
        return _images_of(name, size=size, limit=limit, workers=workers)
    kind, _, place = name.partition(":")
    match kind, bool(place):
        case "shapes", False:
            return _shapes(name, size or 32, limit, only, seed, progress)
        # These two import torchvision, which `import ftwt` does not wait for.
        case "imagefolder", True:
            from ftwt.data import folder

            where = (root or Path()) / Path(place).expanduser()
            classes, train, test = folder.read_folder(
                where, size=size, limit=limit, only=only, progress=progress
            )
            mean, std = channel_statistics((test if only == "test" else train).pixels)
            return Dataset(name, classes, train, test, mean, std)
        case "imagenet", True:
            from ftwt.data import folder

            where = (root or Path()) / Path(place).expanduser()
            count = _default_workers() if workers is None else workers
            return folder.stream_folder(
                name, where, size=size or 224, limit=limit, only=only, workers=count
            )
        case (("cifar10" | "cifar100"), _):
            from ftwt.data import cifar

            where = (root or (Path() if place else cifar.default_root())) / Path(place).expanduser()
            chosen = cifar.CIFARS[kind]
            classes, train, test = cifar.read_cifar(
                chosen, where, size=size, only=only, download=download
            )
            return Dataset(name, classes, _first(train, limit), test, chosen.mean, chosen.std)
        case _:
            known = ", ".join(KNOWN)
            instead = f"imagefolder:{name}, or " if name and Path(name).is_dir() else ""
            raise FtwtError(f'load("{name}"): unknown data set; use {instead}one of {known}')


def load_any(
    name: str,
    *,
    size: int | None = None,
    limit: int | None = None,
    only: Only | None = None,
    workers: int | None = None,
) -> Dataset | Loaders:
    """As `load`, and a file's own loaders too.

    Raises:
        FtwtError: as `load`; or a choice that the file itself has to make.
    """
    if not is_file(name):
        return load(name, size=size, limit=limit, only=only, workers=workers)
    chosen = {"size": size, "limit": limit, "workers": workers}
    for what, value in chosen.items():
        if value is not None:
            raise FtwtError(
                f"load: {what}={value} is what dataset() of {name} says; change it there"
            )
    return dataset_of_file(Path(name))


def _images_of(name: str, *, size: int | None, limit: int | None, workers: int | None) -> Dataset:
    """A file's images, where it makes no loaders."""
    found = load_any(name, size=size, limit=limit, workers=workers)
    if isinstance(found, Loaders):
        raise FtwtError(
            f"load: {name} makes data.Loaders, which training and evaluation take; this needs "
            "images of classes (data.Dataset): in Python, most measures take any loader and a task="
        )
    return found


def _shapes(
    name: str,
    size: int,
    limit: int | None,
    only: Only | None,
    seed: int,
    progress: Progress | None,
) -> Dataset:
    counts = {
        split: count
        for split, count in (("train", shapes.TRAIN_COUNT), ("test", shapes.TEST_COUNT))
        if only in (None, split)
    }
    drawn = {"train": Images.none(size), "test": Images.none(size)}
    before = 0
    for split, count in counts.items():

        def report(done: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, sum(counts.values()))

        # The number of the split is part of the key.
        key = 0 if split == "train" else 1
        drawn[split] = shapes.render_shapes(count, seed, key, size=size, progress=report)
        before += count
    mean, std = channel_statistics(drawn[only or "train"].pixels)
    train = _first(drawn["train"], limit)
    return Dataset(name, shapes.CLASSES, train, drawn["test"], mean, std)


def _first(train: Images, limit: int | None) -> Images:
    if limit is None or not len(train):
        return train
    return train.select(balanced_prefix(train.labels, limit))


def _default_workers() -> int:
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return min(8, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
