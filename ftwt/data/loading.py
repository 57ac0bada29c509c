"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ftwt.data import shapes
from ftwt.data.images import Dataset, Images, channel_statistics
from ftwt.data.splits import balanced_prefix
from ftwt.errors import FtwtError

Progress = Callable[[int, int], None]
KNOWN = ("shapes", "cifar10", "cifar10:DIR", "cifar100", "cifar100:DIR", "imagefolder:DIR")


def load(
    name: str,
    *,
    root: Path | None = None,
    size: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    download: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set into memory.

    | name | images |
    |---|---|
    | `shapes` | 8,000 and 2,000 figures of ten classes that the library draws itself |
    | `cifar10`, `cifar100` | torchvision's, downloaded to `root` when they are not there |
    | `cifar10:DIR`, `cifar100:DIR` | the same, kept in DIR |
    | `imagefolder:DIR` | DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE, or val/ without test/ |

    Args:
        name: a name of the table.
        root: folder that a relative DIR starts from, and that downloads go to; if None the current
            folder and `ftwt` in the user's cache.
        size: side of the images in pixels. Folder images are resized by their shorter side and
            cropped at the centre; CIFAR images resized; shapes drawn at that size. None keeps the
            images' own size, which has to be the same for all.
        limit: keep only this many training images, a fixed choice that is spread evenly over the
            classes; a smaller limit keeps a subset of a larger one.
        seed: chooses the images of `shapes`; nothing else depends on it.
        download: whether CIFAR may be downloaded.
        progress: called with (images ready, images in all) while images are drawn or decoded.

    Raises:
        FtwtError: the name is unknown, images are missing or unreadable or differ in size, or
            `size` or `limit` is too small.
    """
    if size is not None and size < 1:
        raise FtwtError(f"load(size={size}): the size must be 1 pixel or more; use e.g. 32")
    if limit is not None and limit < 1:
        raise FtwtError(
            f"load(limit={limit}): the limit must be a positive number of images; use e.g. 1000"
        )
    kind, _, place = name.partition(":")
    match kind, bool(place):
        case "shapes", False:
            return _shapes(name, size or 32, limit, seed, progress)
        # These two import torchvision, which `import ftwt` does not wait for.
        case "imagefolder", True:
            from ftwt.data import folder

            where = (root or Path()) / Path(place).expanduser()
            classes, train, test = folder.read(where, size=size, limit=limit, progress=progress)
            mean, std = channel_statistics(train.pixels)
            return Dataset(name, classes, train, test, mean, std)
        case (("cifar10" | "cifar100"), _):
            from ftwt.data import cifar

            where = (root or (Path() if place else cifar.default_root())) / Path(place).expanduser()
            chosen = cifar.CIFARS[kind]
            classes, train, test = cifar.read(chosen, where, size=size, download=download)
            return Dataset(name, classes, _first(train, limit), test, chosen.mean, chosen.std)
        case _:
            raise FtwtError(f'load("{name}"): unknown data set; use one of {", ".join(KNOWN)}')


def _shapes(
    name: str, size: int, limit: int | None, seed: int, progress: Progress | None
) -> Dataset:
    total = shapes.TRAIN_COUNT + shapes.TEST_COUNT

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    train = shapes.render(shapes.TRAIN_COUNT, seed, 0, size=size, progress=report)
    test = shapes.render(
        shapes.TEST_COUNT,
        seed,
        1,
        size=size,
        progress=lambda done: report(shapes.TRAIN_COUNT + done),
    )
    mean, std = channel_statistics(train.pixels)
    return Dataset(name, shapes.CLASSES, _first(train, limit), test, mean, std)


def _first(train: Images, limit: int | None) -> Images:
    return train if limit is None else train.select(balanced_prefix(train.labels, limit))
