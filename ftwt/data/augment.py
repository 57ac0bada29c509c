"""Random crops and flips of a whole batch at once."""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import pad as pad_zeros

from ftwt.errors import FtwtError


@dataclass(frozen=True)
class Augment:
    """A random crop after zero padding and a random horizontal flip, drawn for each sample.

    Attributes:
        pad: zero pixels added on each of the four sides before cropping back to the old size.
        flip: mirror half of the samples.

    Raises:
        FtwtError: `pad` is negative.
    """

    pad: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise FtwtError(f"Augment(pad={self.pad}): pad must be 0 or more pixels; use e.g. 4")

    def __call__(
        self, pixels: UInt8[Tensor, "B 3 H W"], generator: torch.Generator
    ) -> UInt8[Tensor, "B 3 H W"]:
        """Return the augmented batch; all randomness comes from `generator`."""
        if self.pad:
            pixels = _crop(pixels, self.pad, generator)
        if self.flip:
            pixels = _flip(pixels, generator)
        return pixels


def _crop(
    pixels: UInt8[Tensor, "B 3 H W"], pad: int, generator: torch.Generator
) -> UInt8[Tensor, "B 3 H W"]:
    batch, _, height, width = pixels.shape
    # (B, 3, H + 2 pad, W + 2 pad) -> a view of every crop (B, 3, 2 pad + 1, 2 pad + 1, H, W)
    crops = pad_zeros(pixels, [pad] * 4).unfold(2, height, 1).unfold(3, width, 1)
    offsets = torch.randint(
        2 * pad + 1, (2, batch), generator=generator, device=generator.device
    ).to(pixels.device)
    return crops[torch.arange(batch, device=pixels.device), :, offsets[0], offsets[1]]


def _flip(pixels: UInt8[Tensor, "B 3 H W"], generator: torch.Generator) -> UInt8[Tensor, "B 3 H W"]:
    coins = torch.randint(2, (len(pixels),), generator=generator, device=generator.device)
    mirrored = coins.bool().to(pixels.device)[:, None, None, None]
    return torch.where(mirrored, pixels.flip(-1), pixels)
