"""An image folder like ImageNet's, small: real JPEG files of odd sizes, and odd ones among them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 1000
ODD = ("gray", "cmyk", "turned")


def make_imagenet(root: Path, *, images: int = 3, classes: int = CLASSES) -> Path:
    """train/ with so many images a class and val/ with one; classes are named as ImageNet's."""
    drawn = [_jpeg(number) for number in range(24)]
    for split, count in (("train", images), ("val", 1)):
        for label in range(classes):
            folder = root / split / f"n{label:08}"
            folder.mkdir(parents=True)
            for number in range(count):
                content = drawn[(label + 7 * number) % len(drawn)]
                (folder / f"{split}_{number}.JPEG").write_bytes(content)
    first = root / "train" / "n00000000"
    picture = Image.open(io.BytesIO(drawn[0]))
    picture.convert("L").save(first / "gray.JPEG")
    picture.convert("CMYK").save(first / "cmyk.JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(first / "turned.JPEG", exif=exif)
    return root


def _jpeg(number: int) -> bytes:
    generator = np.random.default_rng(number)
    height, width = generator.integers(33, 90, 2)
    coarse = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC)
    picture.save(buffer, "JPEG")
    return buffer.getvalue()
