"""Serving images in batches, straight from memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from ftwt.data.augment import Augment
from ftwt.data.images import Images
from ftwt.data.streams import stream
from ftwt.errors import FtwtError


class Batches:
    """A loader that can be iterated again and again, in place of a `DataLoader`.

    Yields (inputs (B, 3, H, W), labels (B,)), inputs being pixels scaled to 0..1 with `mean` taken
    off and divided by `std`.

    Order and augmentation are a pure function of (seed, epoch), never of what was drawn before, so
    a resumed run sees what an unbroken one would have seen. Call `set_epoch` before each epoch:
    without it every pass is the same.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        augment: Augment | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
        device: torch.device | str | None = None,
    ) -> None:
        """Serve `images`.

        Args:
            images: what to serve.
            batch_size: samples in a batch; the last one is smaller when it does not divide.
            mean: mean of each channel, of pixels scaled to 0..1.
            std: standard deviation of each channel, of pixels scaled to 0..1.
            augment: applied to the uint8 batch before normalisation.
            shuffle: serve in a random order, else in the order of `images`.
            seed: seed of order and augmentation.
            drop_last: leave out a last batch that is smaller than the others.
            shard: which of how many parts of the images to serve, as for processes that share
                them: (0, 2) is every other one. With
                `drop_last` all parts have equally many batches.
            device: where batches go; where the images are if None.

        Raises:
            FtwtError: `batch_size` or `std` is not positive, there are no images, or `drop_last`
                leaves no batch.
        """
        if batch_size < 1:
            raise FtwtError(
                f"Batches(batch_size={batch_size}): the batch size must be 1 or more; use e.g. 128"
            )
        index, count = shard
        if not 0 <= index < count:
            raise FtwtError(f"Batches(shard={shard}): there is no such part; use e.g. (0, 2)")
        if len(images) < (batch_size * count if drop_last else index + 1):
            raise FtwtError(
                f"Batches(batch_size={batch_size}, drop_last={drop_last}): {len(images)} images "
                f"make no batch{f' in each of {count} parts' if count > 1 else ''}; give more "
                "images or a smaller batch size"
            )
        if min(std) <= 0:
            raise FtwtError(
                f"Batches(std={std}): every channel's standard deviation must be above 0; "
                "use the data set's own `std`"
            )
        self.images = images
        self.batch_size = batch_size
        self.augment = augment
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.shard = shard
        self.device = torch.device(device) if device is not None else images.pixels.device
        # (pixel / 255 - mean) / std, as one multiplication and one addition.
        scale = [1 / (255 * deviation) for deviation in std]
        shift = [-middle / deviation for middle, deviation in zip(mean, std, strict=True)]
        self._scale = torch.tensor(scale, dtype=torch.float32, device=self.device).view(1, 3, 1, 1)
        self._shift = torch.tensor(shift, dtype=torch.float32, device=self.device).view(1, 3, 1, 1)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next pass.

        Raises:
            FtwtError: seed or epoch is negative.
        """
        stream(self.seed, epoch)
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        index, count = self.shard
        if self.drop_last:
            return len(self.images) // (self.batch_size * count)
        return math.ceil((len(self.images) - index) / count / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Float32[Tensor, "B 3 H W"], Int64[Tensor, " B"]]]:
        return self.starting_at(0)

    def starting_at(
        self, batch: int
    ) -> Iterator[tuple[Float32[Tensor, "B 3 H W"], Int64[Tensor, " B"]]]:
        """Serve the batches of the epoch from number `batch` on, as a whole pass would."""
        index, count = self.shard
        generator = stream(self.seed, self.epoch)
        pixels, labels = self.images.pixels, self.images.labels
        order = torch.arange(len(labels))
        if self.shuffle:
            order = torch.randperm(len(labels), generator=generator)
        if index:
            # Each part has the same order, and augmentation of its own.
            generator = stream(self.seed, self.epoch, index)
        order = order[index::count].to(pixels.device)
        for number, indices in enumerate(torch.split(order, self.batch_size)[: len(self)]):
            chosen = pixels[indices]
            if self.augment is not None:
                # Also of batches that are left out: the generator goes on from one to the next.
                chosen = self.augment(chosen, generator)
            if number >= batch:
                # Moved as uint8: a quarter of the bytes.
                inputs = chosen.to(self.device).float().mul_(self._scale).add_(self._shift)
                yield inputs, labels[indices].to(self.device)
