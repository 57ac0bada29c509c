"""What a data set is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ftwt.data.files import Files
from ftwt.data.images import Images

Split = Images | Files
# Which of its splits to load.
Only = Literal["train", "test"]
# Told how many images are ready, and how many there are in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Two splits of square images with the same classes.

    Attributes:
        name: what `load` was asked for, e.g. "shapes" or "imagefolder:DIR".
        classes: class names, in the order of the labels.
        train: images to learn from; take the validation split out of these with `holdout`. Empty
            where `load` was asked for the test images only.
        test: images to report on. Empty where `load` was asked for the training images only.
        mean: mean of each colour channel, of pixels scaled to 0..1.
        std: standard deviation of each colour channel, of pixels scaled to 0..1.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.train.size if len(self.train) else self.test.size
