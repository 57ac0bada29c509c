"""Random streams: one independent generator for every key."""

import numpy as np
import torch

from ftwt.errors import FtwtError


def seeds(*key: int) -> np.random.SeedSequence:
    """Return the source of random numbers that belongs to `key`.

    The same key always gives the same numbers, and keys such as (seed, epoch) give unrelated ones:
    adding seed and epoch up would make seed 1, epoch 0 repeat seed 0, epoch 1.

    Raises:
        FtwtError: a part of the key is negative.
    """
    if min(key) < 0:
        raise FtwtError(f"seed and epoch must be 0 or more, got {min(key)}; use e.g. 0")
    return np.random.SeedSequence(key)


def random_stream(*key: int) -> torch.Generator:
    """Return the CPU generator that belongs to `key`, see `seeds`."""
    return torch.Generator().manual_seed(int(seeds(*key).generate_state(1)[0]))
