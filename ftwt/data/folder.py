"""Image folders in torchvision's layout: SPLIT/CLASS/IMAGE."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import (  # type: ignore[import-untyped, unused-ignore]
    make_dataset,
)

from ftwt.data.dataset import Dataset, Only, Progress
from ftwt.data.decoding import decode
from ftwt.data.files import Files
from ftwt.data.images import Images
from ftwt.data.splits import balanced_prefix
from ftwt.errors import FtwtError, listed

# The customary ones of ImageNet, which torchvision's weights were trained with.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Folders of macOS archives, of two makers' file servers, of Windows, of Linux file systems.
_TOOLS = frozenset(
    ("__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information",
     "lost+found", "__pycache__")
)  # fmt: skip

# Below this many pixels an image decodes faster than threads hand over the interpreter's lock.
_WORTH_A_THREAD = 128 * 128


def read_folder(
    folder: Path,
    *,
    size: int | None,
    limit: int | None,
    only: Only | None,
    progress: Progress | None,
) -> tuple[tuple[str, ...], Images, Images]:
    """Read `folder`/train and `folder`/test (or val) into (classes, train, test).

    Args:
        folder: holds train/ and test/ or val/; test/ is read when both are there.
        size: side in pixels that images are resized (shorter side) and cropped (centre) to; None
            when all images are square and of one size already.
        limit: training images to keep, see `balanced_prefix`.
        only: the one split to decode; the other one is empty then.
        progress: called with (images read, images in all).

    Raises:
        FtwtError: a folder is missing or empty, the classes of the splits differ, an image cannot
            be read, the images are not of one size, or they do not fit into memory.
    """
    found = listing(folder, ("test", "val"), limit=limit, only=only)
    _check_memory(folder, found, size)
    files = [found.root / os.fsdecode(name) for names, _ in found.splits for name in names]
    pixels = _decode_all(files, size, progress)
    count = len(found.splits[0][0])
    train, test = (labels for _, labels in found.splits)
    return found.classes, Images(pixels[:count], train), Images(pixels[count:], test)


def stream_folder(
    name: str, folder: Path, *, size: int, limit: int | None, only: Only | None, workers: int
) -> Dataset:
    """List a folder as a data set that is decoded while it is served.

    The arguments are those of `read`; val/ goes before test/, as ImageNet's test/ has no labels.
    """
    found = listing(folder, ("val", "test"), limit=limit, only=only)
    train, test = (Files(folder, names, labels, size, workers) for names, labels in found.splits)
    return Dataset(name, found.classes, train, test, _IMAGENET_MEAN, _IMAGENET_STD)


class Listing(NamedTuple):
    """The files of a folder: classes, and names and labels of training and test images."""

    root: Path
    classes: tuple[str, ...]
    splits: list[tuple[np.ndarray, Tensor]]


def listing(
    folder: Path, tests: tuple[str, str], *, limit: int | None, only: Only | None
) -> Listing:
    """Find the images of a folder, without opening them.

    Raises:
        FtwtError: a folder is missing or empty, or the classes of the splits differ.
    """
    train_folder, test_folder = _split_folders(folder, tests)
    classes = _classes(train_folder)
    _check_same_classes(classes, train_folder, test_folder)
    nothing = np.array([], dtype=bytes), torch.empty(0, dtype=torch.int64)
    train, test = nothing, nothing
    if only != "test":
        train = _files(folder, train_folder, classes)
        if limit is not None:
            kept = balanced_prefix(train[1], limit)
            train = train[0][kept.numpy()], train[1][kept]
    if only != "train":
        test = _files(folder, test_folder, classes)
    return Listing(folder, classes, [train, test])


def _split_folders(folder: Path, tests: tuple[str, str]) -> tuple[Path, Path]:
    if not folder.is_dir():
        raise FtwtError(
            f"load: there is no folder {folder}; give one that holds train/CLASS/IMAGE and "
            "test/CLASS/IMAGE (or val/)"
        )
    if not any(folder.iterdir()):
        raise FtwtError(
            f"load: folder {folder} is empty; put train/CLASS/IMAGE and test/CLASS/IMAGE (or val/) "
            "into it"
        )
    if not (folder / "train").is_dir():
        raise FtwtError(
            f"load: folder {folder} has no train/ inside; move the training images to "
            f"{folder / 'train'}/CLASS/"
        )
    for name in tests:
        if (folder / name).is_dir():
            return folder / "train", folder / name
    raise FtwtError(
        f"load: folder {folder} has neither val/ nor test/ inside; move the images to report on to "
        f"{folder / 'test'}/CLASS/"
    )


def _classes(split: Path) -> tuple[str, ...]:
    entries = (entry for entry in split.iterdir() if entry.is_dir())
    names = tuple(sorted(entry.name for entry in entries if not _is_of_tools(entry.name)))
    if not names:
        raise FtwtError(
            f"load: folder {split} holds no class folders; put images into {split}/CLASS/"
        )
    return names


def _check_same_classes(classes: tuple[str, ...], train: Path, test: Path) -> None:
    others = _classes(test)
    for names, known, there, absent in (
        (classes, others, train, test),
        (others, classes, test, train),
    ):
        missing = sorted(set(names) - set(known))
        if missing:
            raise FtwtError(
                f"load: the classes of {train} and {test} differ: {listed(missing)} "
                f"in {there.name}/ but not in {absent.name}/; give both the same class folders"
            )


def _files(root: Path, split: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, Tensor]:
    endings = {
        ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN
    }

    def is_image(path: str) -> bool:
        inside = Path(path).relative_to(split)
        return inside.suffix.lower() in endings and not any(map(_is_of_tools, inside.parts))

    found = make_dataset(
        str(split),
        {name: i for i, name in enumerate(classes)},
        is_valid_file=is_image,
        allow_empty=True,
    )
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    if 0 in counts:
        raise FtwtError(
            f"load: class folder {split / classes[counts.index(0)]} has no images; put some in "
            "(.png, .jpg, .tif and what else Pillow opens) or remove the class from all splits"
        )
    return np.array([os.fsencode(os.path.relpath(path, root)) for path, _ in found]), labels


def _check_memory(folder: Path, found: Listing, size: int | None) -> None:
    """Images that do not fit into half of the memory are for `imagenet:`."""
    names = next(names for names, _ in found.splits if len(names))
    side = size or decode(folder / os.fsdecode(names[0])).width
    count = sum(len(labels) for _, labels in found.splits)
    needed, there = count * 3 * side**2, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there / 2:
        raise FtwtError(
            f"load: {count:,} images of {side} pixels take {needed / 2**30:.1f} GiB of memory, "
            f"this machine has {there / 2**30:.1f}; read them while training: imagenet:{folder}"
        )


def _is_of_tools(name: str) -> bool:
    """Whether editors, file servers and archives leave files or folders of that name behind."""
    return name.startswith(".") or name in _TOOLS


def _decode_all(
    files: Sequence[Path], size: int | None, progress: Progress | None
) -> UInt8[Tensor, "N 3 S S"]:
    first = _decode(files[0], size)
    if first.shape[0] != first.shape[1]:
        raise FtwtError(
            f"load: {files[0]} is {_dimensions(first)} pixels, expected square images; "
            "pass size= (--image-size) to resize and crop"
        )
    pixels = torch.empty((len(files), 3, *first.shape[:2]), dtype=torch.uint8)
    array = pixels.numpy()
    threads = (os.cpu_count() or 1) if _pixel_count(files[0]) >= _WORTH_A_THREAD else 0
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        decode = pool.map if threads else map
        rest = decode(lambda file: _decode(file, size), files[1:])
        for i, image in enumerate(chain([first], rest)):
            if image.shape != first.shape:
                pool.shutdown(wait=False, cancel_futures=True)
                raise FtwtError(
                    f"load: images differ in size, {files[0]} is {_dimensions(first)} pixels and "
                    f"{files[i]} {_dimensions(image)}; pass size= (--image-size) to make all equal"
                )
            array[i] = image.transpose(2, 0, 1)
            if progress is not None:
                progress(i + 1, len(files))
    return pixels


def _decode(file: Path, size: int | None) -> np.ndarray:
    """Return an image as RGB bytes (H, W, 3), turned upright."""
    image = decode(file)
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _pixel_count(file: Path) -> int:
    with Image.open(file) as image:
        return image.width * image.height


def _dimensions(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
