"""What all loaders share: the order of images, and normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from ftwt.data.streams import random_stream
from ftwt.errors import FtwtError, check_whole


@dataclass(frozen=True)
class Order:
    """Which images a loader serves in an epoch, and in which batches.

    Attributes:
        count: images in all.
        batch_size: images in a batch; the last one is smaller when it does not divide.
        shuffle: a random order, else that of the images.
        seed: of the random order.
        drop_last: leave out a last batch that is smaller than the others.
        shard: which of how many parts to serve, as for processes that share the images: (0, 2) is
            every other one. With `drop_last` all parts have equally many batches.

    Raises:
        FtwtError: no batch is left, or there is no such part.
    """

    count: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    drop_last: bool = False
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        check_whole("Batches", "batch_size", self.batch_size)
        index, parts = self.shard
        if not 0 <= index < parts:
            raise FtwtError(f"Batches(shard={self.shard}): there is no such part; use e.g. (0, 2)")
        if self.count < (self.batch_size * parts if self.drop_last else index + 1):
            raise FtwtError(
                f"Batches(batch_size={self.batch_size}, drop_last={self.drop_last}): {self.count} "
                f"images make no batch{f' in each of {parts} parts' if parts > 1 else ''}; give "
                "more images or a smaller batch size"
            )

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        index, parts = self.shard
        if self.drop_last:
            return self.count // (self.batch_size * parts)
        return math.ceil((self.count - index) / parts / self.batch_size)

    def batches(self, epoch: int) -> list[Int64[Tensor, " B"]]:
        """Return the indices of each batch."""
        index, parts = self.shard
        order = torch.arange(self.count)
        if self.shuffle:
            order = torch.randperm(self.count, generator=random_stream(self.seed, epoch))
        return list(torch.split(order[index::parts], self.batch_size)[: len(self)])


class Normalise:
    """(pixel / 255 - mean) / std, as one multiplication and one addition on a device."""

    def __init__(
        self,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device,
    ) -> None:
        if min(std) <= 0:
            raise FtwtError(
                f"Batches(std={std}): every channel's standard deviation must be above 0; "
                "use the data set's own `std`"
            )
        self.device = device
        scale = [1 / (255 * deviation) for deviation in std]
        shift = [-middle / deviation for middle, deviation in zip(mean, std, strict=True)]
        self._scale = torch.tensor(scale, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._shift = torch.tensor(shift, dtype=torch.float32, device=device).view(1, 3, 1, 1)

    def __call__(self, pixels: UInt8[Tensor, "B 3 H W"]) -> Float32[Tensor, "B 3 H W"]:
        """Return the normalised batch; it is moved as uint8, a quarter of the bytes."""
        return pixels.to(self.device).float().mul_(self._scale).add_(self._shift)
