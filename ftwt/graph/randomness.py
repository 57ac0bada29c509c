"""Random numbers of our own that leave the user's as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """The generators of torch, of every device in use, of numpy and of Python begin with a seed.

    Of numpy that is the generator behind its functions, which networks draw from. All are put back
    after. `torch.manual_seed` alone would not do: it sets the generators of CUDA
    too, or those that CUDA will begin with, which `fork_rng(devices=[])` does not put back.
    """
    devices = _devices()
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            if devices:
                torch.manual_seed(seed)
            else:
                torch.default_generator.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002


def generators() -> list[Any]:
    """Where the generators stand that `fixed_seed` sets: the same lists after the same draws."""
    of_torch = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, _devices())]
    _, key, place, *_ = np.random.get_state(legacy=True)  # noqa: NPY002
    numbers = np.asarray(key).tobytes(), place
    return [random.getstate(), numbers, *(one.numpy().tobytes() for one in of_torch)]


def _devices() -> list[int]:
    began = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if began else []
