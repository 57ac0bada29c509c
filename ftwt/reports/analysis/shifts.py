"""Shifted inputs: torchvision's own transforms and Pillow's JPEG, each at five strengths."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ftwt.data import Images
from ftwt.data.augment import vision_transforms
from ftwt.errors import FtwtError

_BATCH = 500


@dataclass(frozen=True)
class Shift:
    """One way in which images can differ from those that a network was trained on.

    `strengths` rise in severity; `unit` says what the numbers are.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    change: Callable[[Tensor, float], Tensor]


def shifted(images: Images, shift: Shift, strength: float, *, seed: int = 0) -> Images:
    """The images under a shift, as uint8 again; noise comes from the seed alone.

    Raises:
        FtwtError: `strength` is none of the shift's.
    """
    if strength not in shift.strengths:
        raise FtwtError(
            f"shifted: {shift.name} has no strength {strength}; use one of "
            f"{', '.join(map(str, shift.strengths))}"
        )
    # torchvision's noise draws from torch's global generator; it is put back as it was.
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        parts = [shift.change(part, strength) for part in torch.split(images.pixels, _BATCH)]
    return Images(torch.cat(parts), images.labels)


def _blur(pixels: UInt8[Tensor, "B 3 H W"], sigma: float) -> Any:
    # Wide enough for three standard deviations on either side.
    size = 2 * max(1, round(3 * sigma)) + 1
    return _images().gaussian_blur(pixels, [size, size], [sigma, sigma])


def _jpeg(pixels: UInt8[Tensor, "B 3 H W"], quality: float) -> Any:
    """By Pillow: torchvision 0.29 deprecates its own codec, and v2.JPEG with it."""
    from PIL import Image

    def compressed(image: UInt8[Tensor, "3 H W"]) -> Any:
        file = io.BytesIO()
        _images().to_pil_image(image).save(file, "JPEG", quality=int(quality))
        with Image.open(file) as decoded:
            return _images().pil_to_tensor(decoded)

    return torch.stack([compressed(image) for image in pixels])


def _images() -> Any:
    """Torchvision's functions of images."""
    return vision_transforms().functional


SHIFTS = (
    Shift("blur", "sigma, pixels", (0.4, 0.6, 0.8, 1.2, 1.6), _blur),
    Shift(
        "noise", "sigma, of the range", (0.02, 0.05, 0.1, 0.15, 0.2),
        lambda pixels, sigma: _images().gaussian_noise(pixels, sigma=sigma),
    ),
    Shift(
        "contrast", "factor", (0.8, 0.6, 0.4, 0.25, 0.15),
        lambda pixels, factor: _images().adjust_contrast(pixels, factor),
    ),
    Shift("JPEG", "quality", (50.0, 30.0, 20.0, 10.0, 5.0), _jpeg),
    Shift(
        "brightness", "factor", (0.8, 0.6, 0.4, 0.25, 0.15),
        lambda pixels, factor: _images().adjust_brightness(pixels, factor),
    ),
)  # fmt: skip
