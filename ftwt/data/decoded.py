"""Images on disk in batches, decoded by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ftwt.data.augment import Augment, ResizedCrop, centre
from ftwt.data.decoding import decode
from ftwt.data.files import Files
from ftwt.data.streams import random_stream
from ftwt.errors import FtwtError

# An image with its label, or why it cannot be read: an exception would lose its own words on the
# way from a worker.
_Sample = tuple[UInt8[Tensor, "3 S S"], int] | str


def decoded(
    files: Files,
    chosen: Sequence[Int64[Tensor, " B"]],
    batch: int,
    augment: Augment | ResizedCrop | None,
    key: tuple[int, int],
    *,
    shard: int,
) -> Iterator[tuple[UInt8[Tensor, "B 3 S S"], Int64[Tensor, " B"]]]:
    """Decode batches from number `batch` on; see `Batches`.

    Args:
        files: the images.
        chosen: the places of each batch of an epoch.
        batch: the first batch to decode.
        augment: random changes, whose numbers come from `key`, seed and epoch.
        key: seed and epoch.
        shard: the number of the part of the images that these are.

    Raises:
        FtwtError: an image cannot be read, which is named, or a worker was killed.
    """
    by_image = augment if isinstance(augment, ResizedCrop) else None
    loader = DataLoader(
        _Decoded(files, by_image, *key),
        batch_sampler=[one.tolist() for one in chosen[batch:]],
        num_workers=files.workers,
        collate_fn=_collate,
        worker_init_fn=_ignore_signals,
        # Its own: without it the global generator, which dropout draws from, would move.
        generator=torch.Generator().manual_seed(0),
    )
    try:
        for number, (pixels, labels, unreadable) in enumerate(loader, batch):
            if unreadable:
                raise FtwtError(unreadable)
            if isinstance(augment, Augment):
                pixels = augment(pixels, random_stream(*key, shard, number))
            yield pixels, labels
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise FtwtError(
            "load: a process that decodes images was killed, most often for lack of memory; "
            "give fewer workers (--workers)"
        ) from None


class _Decoded(Dataset[_Sample]):
    """What workers do: decode, crop."""

    def __init__(self, files: Files, augment: ResizedCrop | None, seed: int, epoch: int) -> None:
        self.files = files
        self.augment = augment
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> _Sample:
        try:
            picture = decode(self.files.path(index))
        except FtwtError as error:
            return str(error)
        if self.augment is None:
            pixels = centre(picture, self.files.size)
        else:
            generator = random_stream(self.seed, self.epoch, index)
            pixels = self.augment.image(picture, self.files.size, generator)
        return pixels, int(self.files.labels[index])


def _ignore_signals(_: int) -> None:
    """Leave signals to the process that trains: it saves first, and ends its workers itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _collate(samples: list[_Sample]) -> tuple[Tensor, Tensor, str]:
    """Return pixels, labels, and why an image cannot be read, or nothing."""
    for sample in samples:
        if isinstance(sample, str):
            return torch.empty(0), torch.empty(0), sample
    whole = [sample for sample in samples if not isinstance(sample, str)]
    pixels, labels = zip(*whole, strict=True)
    return torch.stack(pixels), torch.tensor(labels), ""
