"""Serving images in batches, from memory or from disk."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from ftwt.data.augment import Augment, ResizedCrop
from ftwt.data.dataset import Dataset, Split
from ftwt.data.decoded import decoded
from ftwt.data.images import Images
from ftwt.data.serving import Normalise, Order
from ftwt.data.splits import limited
from ftwt.data.streams import random_stream
from ftwt.errors import FtwtError


class Batches:
    """A loader that can be iterated again and again, in place of a `DataLoader`.

    Yields (inputs (B, 3, H, W), labels (B,)), inputs being pixels scaled to 0..1 with `mean` taken
    off and divided by `std`.

    Order and augmentation are a pure function of (seed, epoch), never of what was drawn before, so
    a resumed run sees what an unbroken one would have seen. Call `set_epoch` before each epoch:
    without it every pass is the same.

    Images on disk are decoded by worker processes and resized and cropped: by `ResizedCrop` at
    random, else at the centre, as ImageNet is evaluated. Each image's crop is a pure function of
    (seed, epoch, image), so it depends neither on the number of workers nor on the batches before.
    """

    def __init__(
        self,
        images: Split,
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
        """Serve `images` from where they are, memory or disk.

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
        if not hasattr(images, "labels"):
            raise FtwtError(
                f"Batches: images is a {type(images).__name__}; give data.Images(pixels, labels), "
                "uint8 (N, 3, H, W) and int64 (N,), or the train or test of a data.Dataset"
            )
        self.order = Order(len(images), batch_size, shuffle, seed, drop_last, shard)
        self.images = images
        self.augment = augment
        self.seed = seed
        self.device = images.labels.device if device is None else torch.device(device)
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
        """Serve the batches of the epoch from number `batch` on, as a whole pass would.

        Raises:
            FtwtError: an image cannot be read, which is named, or a worker was killed.
        """
        chosen = self.order.batches(self.epoch)
        index, _ = self.order.shard
        if isinstance(self.images, Images):
            found = self._in_memory(self.images, chosen, batch)
        else:
            key = (self.seed, self.epoch)
            found = decoded(self.images, chosen, batch, self.augment, key, shard=index)
        for pixels, labels in found:
            yield self._normalise(pixels), labels.to(self.device)

    def _in_memory(
        self, images: Images, chosen: list[Int64[Tensor, " B"]], batch: int
    ) -> Iterator[tuple[UInt8[Tensor, "B 3 H W"], Int64[Tensor, " B"]]]:
        generator = random_stream(self.seed, self.epoch)
        if self.order.shuffle:
            # The numbers that made the order are not used again.
            torch.randperm(self.order.count, generator=generator)
        index, _ = self.order.shard
        if index:
            # The parts have the same order, and augmentation of their own.
            generator = random_stream(self.seed, self.epoch, index)
        for number, places in enumerate(chosen):
            part = images.select(places.to(images.pixels.device))
            pixels = part.pixels
            if self.augment is not None:
                # Also of batches that are left out: the generator goes on from one to the next.
                pixels = self.augment(pixels, generator)
            if number >= batch:
                yield pixels, part.labels


def evaluation_batches(
    dataset: Dataset, images: Split, *, limit: int | None = None, shard: tuple[int, int] = (0, 1)
) -> Batches:
    """Batches of a data set's images, or of some of each class, for passes without gradients."""
    chosen = limited(images, limit)
    return Batches(
        chosen, evaluation_batch(chosen), mean=dataset.mean, std=dataset.std, shard=shard
    )


def evaluation_batch(split: Split) -> int:
    """Images of a batch without gradients: 500 small ones, 40 of 224 pixels."""
    return min(500, max(1, 2_007_040 // split.size**2))
