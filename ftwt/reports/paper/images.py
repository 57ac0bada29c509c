"""Choosing images, and having them in memory."""

from typing import TypeVar

import torch

from ftwt.data import Images, Split, serve
from ftwt.data.files import Files
from ftwt.data.loaders import evaluation_batch
from ftwt.data.splits import balanced_prefix

_S = TypeVar("_S", bound=Images | Files)


def some(images: _S, limit: int | None) -> _S:
    """As many images as asked for, of each class alike; all if None or if there are no more."""
    if limit is None or limit >= len(images):
        return images
    return images.select(balanced_prefix(images.labels, limit))  # type: ignore[return-value]


def in_memory(images: Split) -> Images:
    """The same images in memory, to look at or to change."""
    if isinstance(images, Images):
        return images
    batches = serve(images, evaluation_batch(images), mean=(0, 0, 0), std=(1, 1, 1))
    parts = [(255 * pixels).round().to(torch.uint8) for pixels, _ in batches]
    return Images(torch.cat(parts), images.labels)
