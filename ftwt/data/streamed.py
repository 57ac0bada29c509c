"""Serving images from disk in batches, decoded by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ftwt.data.augment import Augment, ResizedCrop, centre
from ftwt.data.decoding import decode
from ftwt.data.files import Files
from ftwt.data.serving import Normalise, Order
from ftwt.data.streams import random_stream
from ftwt.errors import FtwtError

# An image with its label, or why it cannot be read: an exception would lose its own words on the
# way from a worker.
_Sample = tuple[UInt8[Tensor, "3 S S"], int] | str


class StreamedBatches:
    """A loader of images on disk, with the interface and the promises of `Batches`.

    Images are resized and cropped: by `ResizedCrop` at random, else at the centre, as ImageNet is
    evaluated. Each image's augmentation is a pure function of (seed, epoch, image), so it depends
    neither on the number of workers nor on the batches before.
    """

    def __init__(
        self,
        files: Files,
        batch_size: int,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        augment: Augment | ResizedCrop | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Serve `files`; the arguments are those of `Batches`."""
        self.order = Order(len(files), batch_size, shuffle, seed, drop_last, shard)
        self.files = files
        self.augment = augment
        self.seed = seed
        self._normalise = Normalise(mean, std, torch.device("cpu"))
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next pass.

        Raises:
            FtwtError: seed or epoch is negative.
        """
        random_stream(self.seed, epoch)
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Float32[Tensor, "B 3 S S"], Int64[Tensor, " B"]]]:
        return self.starting_at(0)

    def starting_at(
        self, batch: int
    ) -> Iterator[tuple[Float32[Tensor, "B 3 S S"], Int64[Tensor, " B"]]]:
        """Serve the batches of the epoch from number `batch` on, as a whole pass would.

        Raises:
            FtwtError: an image cannot be read, which is named, or a worker was killed.
        """
        chosen = self.order.batches(self.epoch)[batch:]
        by_image = self.augment if isinstance(self.augment, ResizedCrop) else None
        loader = DataLoader(
            _Decoded(self.files, by_image, self.seed, self.epoch),
            batch_sampler=[one.tolist() for one in chosen],
            num_workers=self.files.workers,
            collate_fn=_collate,
            worker_init_fn=_ignore_signals,
            # Its own: without it the global generator, which dropout draws from, would move.
            generator=torch.Generator().manual_seed(0),
        )
        try:
            for number, (pixels, labels, unreadable) in enumerate(loader, batch):
                if unreadable:
                    raise FtwtError(unreadable)
                if isinstance(self.augment, Augment):
                    index, _ = self.order.shard
                    pixels = self.augment(
                        pixels, random_stream(self.seed, self.epoch, index, number)
                    )
                yield self._normalise(pixels), labels
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
