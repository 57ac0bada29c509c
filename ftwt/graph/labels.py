"""Labels: where the elements of a tensor came from, for operations that only move elements.

A label is 1 + channel + sample * width in an expression of that width; 0 is an element that is
always zero, such as padding. An operation that moves elements is run on labels, and what it did is
read off the result.
"""

import torch
from torch import Tensor

from ftwt.graph.probing import PROBE_BATCH


def of_channels(shape: torch.Size, width: int) -> Tensor:
    """Labels of a tensor (B, C, ...) whose dim 1 is the first C channels of `width`."""
    channel = torch.arange(1, shape[1] + 1, dtype=torch.float64)
    channel = channel.view(1, -1, *[1] * (len(shape) - 2))
    return (channel + _samples(len(shape)) * width).expand(shape)


def rebased(labels: Tensor, old: int, new: int, shift: int = 0) -> Tensor:
    """Labels of an expression of width `old` as those of one of width `new`, `shift` further."""
    moved = labels + _samples(labels.dim()) * (new - old) + shift
    return torch.where(labels > 0, moved, labels)


def channel_index(labels: Tensor, width: int, dim: int = 1) -> tuple[int, ...] | None:
    """The channel, from 1, that each place of `dim` comes from; 0 for none.

    None if places mix channels or samples. An element that is always zero goes with any channel.
    """
    labels = labels.movedim(dim, 1)
    flat = labels.reshape(labels.shape[0], labels.shape[1], -1)
    if labels.shape[0] != PROBE_BATCH or flat.shape[2] == 0:
        return None
    most = flat.amax(2)
    if not bool(((flat == most[:, :, None]) | (flat == 0)).all()):
        return None
    channel = torch.where(most > 0, most - _samples(2) * width, most)
    fits = bool((channel == channel[0]).all() and (channel >= 0).all() and (channel <= width).all())
    return tuple(int(one) for one in channel[0]) if fits else None


def keeps_samples_apart(labels: Tensor, width: int) -> bool:
    """Whether each sample holds its own elements only."""
    if labels.dim() < 2 or labels.shape[0] != PROBE_BATCH:
        return False
    first = _samples(labels.dim()) * width
    return bool(((labels == 0) | ((labels > first) & (labels <= first + width))).all())


def _samples(rank: int) -> Tensor:
    return torch.arange(PROBE_BATCH, dtype=torch.float64).view(-1, *[1] * (rank - 1))
