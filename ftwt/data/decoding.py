"""Reading image files."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ftwt.errors import FtwtError

# TIFF tags.
_BITS, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0
# Formats whose 32-bit whole numbers Pillow has brought to 0..65535.
_SIXTEEN_BITS = ("PNG", "PPM")


def decode(file: Path) -> Image.Image:
    """Return an image as RGB, turned upright.

    Greys of more than 8 bits are scaled: whole numbers of 16 (or 12) bits from their full range,
    floats from 0..1.

    Raises:
        FtwtError: the file is no whole image, or its numbers have no known range; names it.
    """
    try:
        with warnings.catch_warnings():
            # Real collections are full of harmless oddities, told per image: broken EXIF tags.
            warnings.simplefilter("ignore")
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened)
                if image.mode[0] in "IF":
                    # PIL would cut these off at 255 instead of scaling them.
                    image = _deep_grey(np.asarray(image), opened)
                if image.mode in ("P", "PA", "La", "RGBa"):
                    # By way of RGBA, which keeps transparency apart from colour.
                    image = image.convert("LA" if image.mode == "La" else "RGBA")
                return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (
            str(error).replace(repr(str(file)), "").replace(str(file), "").strip()
            or type(error).__name__
        )
        raise FtwtError(
            f"load: cannot read image {file} ({reason}); replace the file or remove it"
        ) from error


def _deep_grey(values: np.ndarray, opened: Image.Image) -> Image.Image:
    """8-bit greys of 16-bit, 32-bit or float ones."""
    tags = getattr(opened, "tag_v2", {})
    if opened.mode == "F":
        top = 1.0
        # Not a number is outside too.
        if not (values.min() >= 0 and values.max() <= top):
            raise ValueError(
                f"floats from {values.min():g} to {values.max():g}, expected 0..1; scale them, or "
                "save 8 or 16 bits"
            )
    elif opened.mode == "I" and opened.format not in _SIXTEEN_BITS:
        raise ValueError(
            f"32-bit whole numbers from {values.min()} to {values.max()}, of no known range; save "
            "8 or 16 bits"
        )
    else:
        bits = tags.get(_BITS, 16)
        top = 2 ** (bits if isinstance(bits, int) else bits[0]) - 1
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = top - values
    if top > 1:
        # The high byte, as Pillow takes it of 16-bit colours.
        return Image.fromarray((values // ((top + 1) // 256)).astype(np.uint8))
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))
