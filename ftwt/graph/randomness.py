"""Random numbers of our own that leave the user's as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Torch's own generators, of every device in use, begin with a seed and are put back after.

    `torch.manual_seed` alone would not do: it sets the generators of CUDA too, or those that CUDA
    will begin with, which `fork_rng(devices=[])` does not put back.
    """
    began = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    in_use = list(range(torch.cuda.device_count())) if began else []
    with torch.random.fork_rng(in_use):
        if in_use:
            torch.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield
