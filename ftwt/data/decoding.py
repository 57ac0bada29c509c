"""Reading image files."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ftwt.errors import FtwtError


def decode(file: Path) -> Image.Image:
    """Return an image as RGB, turned upright.

    Raises:
        FtwtError: the file is no whole image; names it.
    """
    try:
        with warnings.catch_warnings():
            # Real collections are full of harmless oddities, told per image: broken EXIF tags.
            warnings.simplefilter("ignore")
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened)
                if image.mode.startswith("I;16"):
                    # PIL would cut 16-bit greys off at 255 instead of scaling them.
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                if image.mode == "P":
                    # By way of RGBA, which keeps a palette's transparency.
                    image = image.convert("RGBA")
                return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(file), "").strip() or type(error).__name__
        raise FtwtError(
            f"load: cannot read image {file} ({reason}); replace the file or remove it"
        ) from error
