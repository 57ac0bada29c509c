"""Serving images in batches, straight from memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from ftwt.data.augment import Augment, ResizedCrop
from ftwt.data.images import Images
from ftwt.data.serving import Normalise, Order
from ftwt.data.streams import random_stream


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
        augment: Augment | ResizedCrop | None = None,
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
        self.order = Order(len(images), batch_size, shuffle, seed, drop_last, shard)
        self.images = images
        self.augment = augment
        self.seed = seed
        self.device = torch.device(device) if device is not None else images.pixels.device
        self._normalise = Normalise(mean, std, self.device)
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

    def __iter__(self) -> Iterator[tuple[Float32[Tensor, "B 3 H W"], Int64[Tensor, " B"]]]:
        return self.starting_at(0)

    def starting_at(
        self, batch: int
    ) -> Iterator[tuple[Float32[Tensor, "B 3 H W"], Int64[Tensor, " B"]]]:
        """Serve the batches of the epoch from number `batch` on, as a whole pass would."""
        pixels, labels = self.images.pixels, self.images.labels
        generator = random_stream(self.seed, self.epoch)
        if self.order.shuffle:
            # The numbers that made the order are not used again.
            torch.randperm(self.order.count, generator=generator)
        index, _ = self.order.shard
        if index:
            # The parts have the same order, and augmentation of their own.
            generator = random_stream(self.seed, self.epoch, index)
        for number, chosen in enumerate(self.order.batches(self.epoch)):
            indices = chosen.to(pixels.device)
            images = pixels[indices]
            if self.augment is not None:
                # Also of batches that are left out: the generator goes on from one to the next.
                images = self.augment(images, generator)
            if number >= batch:
                yield self._normalise(images), labels[indices].to(self.device)
