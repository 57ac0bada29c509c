"""CIFAR-10 and CIFAR-100, read and downloaded by torchvision."""

from __future__ import annotations

import os
import tarfile
import warnings
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import (  # type: ignore[import-untyped, unused-ignore]
    CIFAR10,
    CIFAR100,
)
from torchvision.transforms.v2.functional import (  # type: ignore[import-untyped, unused-ignore]
    resize,
)

from ftwt.data.images import Images
from ftwt.errors import FtwtError


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets.

    Attributes:
        name: how `load` calls it.
        source: torchvision's class.
        mean: the customary mean of each channel.
        std: the customary standard deviation of each channel.
    """

    name: str
    source: type[Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CIFARS = {
    cifar.name: cifar
    for cifar in (
        Cifar("cifar10", CIFAR10, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        Cifar("cifar100", CIFAR100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    )
}


def default_root() -> Path:
    """Return the folder that downloads go to: `ftwt` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ftwt"


def read_cifar(
    cifar: Cifar, folder: Path, *, size: int | None, only: str | None, download: bool
) -> tuple[tuple[str, ...], Images, Images]:
    """Read a CIFAR data set into (classes, train, test).

    Args:
        cifar: which one.
        folder: holds torchvision's `cifar-10-batches-py` or `cifar-100-python`.
        size: side in pixels that images are resized to, or None for 32.
        only: "train" or "test", the one split to read; the other one is empty then.
        download: fetch the archive when the files are not there.

    Raises:
        FtwtError: the files are absent or damaged and cannot be downloaded.
    """
    try:
        with warnings.catch_warnings():
            # The archives were pickled by a NumPy whose dtypes newer ones warn about.
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            wanted = [name for name in ("train", "test") if only in (None, name)]
            # Any one of them checks that the files of both are there.
            read = {
                name: cifar.source(folder, train=name == "train", download=download)
                for name in wanted
            }
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        failed = f"cannot be downloaded to {folder}" if download else f"is not whole in {folder}"
        reason = " ".join(str(error).split())
        raise FtwtError(
            f'load("{cifar.name}"): {cifar.source.base_folder} {failed} ({reason}); put '
            f"{cifar.source.filename} from {cifar.source.url} there, or name the folder that has "
            f"it: {cifar.name}:DIR"
        ) from error
    classes = tuple(read[wanted[0]].classes)
    train, test = (
        _images(read[name], size) if name in read else Images.none(size or 32)
        for name in ("train", "test")
    )
    return classes, train, test


def _images(split: Any, size: int | None) -> Images:
    pixels = torch.from_numpy(split.data).permute(0, 3, 1, 2)
    if size is not None and size != pixels.shape[-1]:
        # In parts, because interpolation goes through float.
        parts = (resize(part, [size, size], antialias=True) for part in torch.split(pixels, 1024))
        pixels = torch.cat(list(parts))
    return Images(pixels.contiguous(), torch.tensor(split.targets, dtype=torch.int64))
