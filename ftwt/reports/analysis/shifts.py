"""Shifted inputs: torchvision's own transforms and Pillow's JPEG, each at five strengths."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from ftwt.data import Images
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


# torchvision is imported when used: `import ftwt` does not wait for it.


def _blur(pixels: UInt8[Tensor, "B 3 H W"], sigma: float) -> UInt8[Tensor, "B 3 H W"]:
    from torchvision.transforms import v2

    # Wide enough for three standard deviations on either side.
    size = 2 * max(1, round(3 * sigma)) + 1
    blurred: Tensor = v2.functional.gaussian_blur(pixels, [size, size], [sigma, sigma])
    return blurred


def _noise(pixels: UInt8[Tensor, "B 3 H W"], sigma: float) -> UInt8[Tensor, "B 3 H W"]:
    from torchvision.transforms import v2

    noisy: Tensor = v2.functional.gaussian_noise(pixels, sigma=sigma)
    return noisy


def _contrast(pixels: UInt8[Tensor, "B 3 H W"], factor: float) -> UInt8[Tensor, "B 3 H W"]:
    from torchvision.transforms import v2

    flat: Tensor = v2.functional.adjust_contrast(pixels, factor)
    return flat


def _jpeg(pixels: UInt8[Tensor, "B 3 H W"], quality: float) -> UInt8[Tensor, "B 3 H W"]:
    from PIL import Image
    from torchvision.transforms import v2

    # By Pillow: torchvision 0.29 deprecates its own codec, and v2.JPEG with it.
    def compressed(image: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 H W"]:
        file = io.BytesIO()
        v2.functional.to_pil_image(image).save(file, "JPEG", quality=int(quality))
        with Image.open(file) as decoded:
            whole: Tensor = v2.functional.pil_to_tensor(decoded)
        return whole

    return torch.stack([compressed(image) for image in pixels])


def _brightness(pixels: UInt8[Tensor, "B 3 H W"], factor: float) -> UInt8[Tensor, "B 3 H W"]:
    from torchvision.transforms import v2

    dark: Tensor = v2.functional.adjust_brightness(pixels, factor)
    return dark


SHIFTS = (
    Shift("blur", "sigma, pixels", (0.4, 0.6, 0.8, 1.2, 1.6), _blur),
    Shift("noise", "sigma, of the range", (0.02, 0.05, 0.1, 0.15, 0.2), _noise),
    Shift("contrast", "factor", (0.8, 0.6, 0.4, 0.25, 0.15), _contrast),
    Shift("JPEG", "quality", (50.0, 30.0, 20.0, 10.0, 5.0), _jpeg),
    Shift("brightness", "factor", (0.8, 0.6, 0.4, 0.25, 0.15), _brightness),
)
