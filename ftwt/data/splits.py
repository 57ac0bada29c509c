"""Choosing images: a held-out part, a smaller training set."""

from typing import TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from ftwt.data.files import Files
from ftwt.data.images import Images
from ftwt.data.streams import random_stream
from ftwt.errors import FtwtError

_S = TypeVar("_S", bound=Images | Files)


def holdout(images: _S, fraction: float = 0.1, seed: int = 0) -> tuple[_S, _S]:
    """Split into (train, validation); every class gives its share to both.

    The validation split has round(fraction * N) images, and of each class as many as its share,
    give or take one. The same arguments always give the same split.

    Args:
        images: the split to take from.
        fraction: share of validation images, between 0 and 1.
        seed: chooses the images.

    Raises:
        FtwtError: the fraction is not between 0 and 1, or leaves one of the two splits empty.
    """
    if not 0 < fraction < 1:
        raise FtwtError(
            f"holdout(fraction={fraction}): the fraction must lie between 0 and 1, both excluded; "
            "use e.g. 0.1"
        )
    count = round(fraction * len(images))
    if not 0 < count < len(images):
        raise FtwtError(
            f"holdout(fraction={fraction}): {count} of {len(images)} images would be held out, "
            "which leaves an empty split; use more images or another fraction"
        )
    # The position of an image within its class, 0..1: a prefix in this order takes the same share
    # of every class, however large it is.
    sizes = torch.bincount(images.labels.cpu())[images.labels.cpu()]
    position = (_rank_in_class(images.labels.cpu(), random_stream(seed)) + 0.5) / sizes
    held_out = torch.zeros(len(images), dtype=torch.bool)
    held_out[position.argsort(stable=True)[:count]] = True
    chosen = [part.nonzero().squeeze(1).to(images.labels.device) for part in (~held_out, held_out)]
    train, held = (images.select(part) for part in chosen)
    return train, held  # type: ignore[return-value]


def limited(images: _S, limit: int | None) -> _S:
    """As many images as asked for, of each class alike; all if None or if there are no more."""
    if limit is None or limit >= len(images):
        return images
    return images.select(balanced_prefix(images.labels, limit))  # type: ignore[return-value]


def balanced_prefix(labels: Int64[Tensor, " N"], limit: int) -> Int64[Tensor, " M"]:
    """Return the indices of `limit` images, spread over the classes as evenly as they allow.

    Images are taken in rounds, one of each class, so a smaller limit is a prefix of a larger one.
    The choice is fixed: runs with different seeds learn from the same images.

    Raises:
        FtwtError: the limit is smaller than the number of classes.
    """
    classes = int(torch.bincount(labels).count_nonzero())
    if limit < classes:
        raise FtwtError(
            f"load(limit={limit}): the limit must be at least the number of classes, {classes}, "
            "to keep an image of each; use a larger limit or none"
        )
    ranks = _rank_in_class(labels, random_stream(0))
    return (ranks * (int(labels.max()) + 1) + labels).argsort()[:limit]


def _rank_in_class(labels: Int64[Tensor, " N"], generator: torch.Generator) -> Int64[Tensor, " N"]:
    """Return the place of each image in a random order of its own class, from 0."""
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    sizes = torch.bincount(labels)
    starts = sizes.cumsum(0) - sizes
    ranks = torch.empty_like(labels)
    ranks[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    return ranks
