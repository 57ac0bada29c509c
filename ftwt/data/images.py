"""What a data set is: labelled images in memory, and how to normalise them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ftwt.errors import FtwtError


@dataclass(frozen=True, eq=False)
class Images:
    """A split in memory.

    Attributes:
        pixels: RGB images, 0..255.
        labels: class of each image, an index into `Dataset.classes`.

    Raises:
        FtwtError: shapes or types do not fit.
    """

    pixels: UInt8[Tensor, "N 3 H W"]
    labels: Int64[Tensor, " N"]

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] != 3:
            raise FtwtError(
                f"Images: pixels are {self.pixels.dtype} {tuple(self.pixels.shape)}, expected "
                "torch.uint8 (N, 3, H, W); convert grey or float images first"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.pixels.shape[:1]:
            raise FtwtError(
                f"Images: labels are {self.labels.dtype} {tuple(self.labels.shape)}, expected "
                f"torch.int64 ({len(self.pixels)},); give one class index for each image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def none(size: int) -> Images:
        """Return a split without images."""
        pixels = torch.empty((0, 3, size, size), dtype=torch.uint8)
        return Images(pixels, torch.empty(0, dtype=torch.int64))

    @property
    def size(self) -> int:
        """Width of the images in pixels."""
        return self.pixels.shape[-1]

    def select(self, indices: Int64[Tensor, " M"]) -> Images:
        """Return the images at `indices`, in that order."""
        return Images(self.pixels[indices], self.labels[indices])

    def digest(self) -> str:
        """Return a short text that is the same for the same images and labels, and only then."""
        digest = hashlib.sha256(str(tuple(self.pixels.shape)).encode())
        for values in (self.pixels, self.labels):
            digest.update(values.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]


def channel_statistics(
    pixels: UInt8[Tensor, "N 3 H W"],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of each channel, of pixels scaled to 0..1.

    Counted in integers, so that the result does not depend on the order of summation or on the
    number of threads.
    """
    means, stds = [], []
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(3):
        counts = torch.bincount(pixels[:, channel].flatten(), minlength=256).double()
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / counts.sum()
        means.append(mean.item())
        # Half a grey level: images of one colour must not make a division by zero.
        stds.append(max(variance.sqrt().item(), 0.5 / 255))
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
