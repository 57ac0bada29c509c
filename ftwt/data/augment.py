"""Random crops and flips: of a whole batch at once, or image by image."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import pad as pad_zeros

from ftwt.errors import FtwtError, check_whole
from ftwt.io.registry import register


@register
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
        check_whole("Augment", "pad", self.pad, least=0)

    def __call__(
        self, pixels: UInt8[Tensor, "B 3 H W"], generator: torch.Generator
    ) -> UInt8[Tensor, "B 3 H W"]:
        """Return the augmented batch; all randomness comes from `generator`."""
        if self.pad:
            pixels = _crop(pixels, self.pad, generator)
        if self.flip:
            pixels = _flip(pixels, generator)
        return pixels


@register
@dataclass(frozen=True)
class ResizedCrop:
    """ImageNet's augmentation: a random part of each image, resized, and a random flip.

    torchvision's v2 transforms do the work. Images on disk are augmented one by one where they are
    decoded, by `image`.

    Attributes:
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest ratio of width to height.
        flip: mirror half of the samples.

    Raises:
        FtwtError: a range is empty, or an area is not within (0, 1].
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __post_init__(self) -> None:
        low, high = self.scale
        narrow, wide = self.ratio
        if not (0 < low <= high <= 1 and 0 < narrow <= wide):
            raise FtwtError(
                f"ResizedCrop(scale={self.scale}, ratio={self.ratio}): give ranges (low, high), "
                "areas within (0, 1]; use e.g. scale=(0.08, 1.0)"
            )

    def image(
        self, picture: Any, size: int, generator: torch.Generator
    ) -> UInt8[Tensor, "3 size size"]:
        """Return one augmented image of `size` pixels; all randomness comes from `generator`."""
        v2 = vision_transforms()
        # These transforms draw from torch's own generator.
        with torch.random.fork_rng(devices=[]):
            # Of the CPU alone, where they draw: CUDA's generators are the user's.
            torch.default_generator.manual_seed(generator.initial_seed())
            crop = v2.RandomResizedCrop(size, self.scale, self.ratio, antialias=True)
            flip = v2.RandomHorizontalFlip(0.5 if self.flip else 0.0)
            pixels: Tensor = v2.functional.to_image(flip(crop(picture)))
        return pixels.as_subclass(Tensor)

    def __call__(
        self, pixels: UInt8[Tensor, "B 3 H W"], generator: torch.Generator
    ) -> UInt8[Tensor, "B 3 H W"]:
        """Return the augmented batch, of the same size."""
        seeds = torch.randint(2**62, (len(pixels),), generator=generator).tolist()
        made = [
            self.image(one, pixels.shape[-1], torch.Generator().manual_seed(seed))
            for one, seed in zip(pixels, seeds, strict=True)
        ]
        return torch.stack(made)


def centre(picture: Any, size: int) -> UInt8[Tensor, "3 size size"]:
    """Return the centre of an image, as ImageNet is evaluated.

    The shorter side is resized to 256 / 224 of `size`, then `size` by `size` pixels are cropped.
    """
    v2 = vision_transforms()
    resized = v2.functional.resize(picture, [round(size * 256 / 224)], antialias=True)
    pixels: Tensor = v2.functional.to_image(v2.functional.center_crop(resized, [size, size]))
    return pixels.as_subclass(Tensor)


def vision_transforms() -> Any:
    """Torchvision's own, imported late: that takes longer than to import all of ftwt."""
    from torchvision.transforms import v2

    return v2


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
