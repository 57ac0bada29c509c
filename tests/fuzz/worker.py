"""What each process of a run does."""

import time
import warnings
from dataclasses import dataclass

import torch

from tests.fuzz.checks import check, plain_runs
from tests.fuzz.spec import draw

# Exporting takes seconds, so only each so manieth network is exported.
_EXPORTED = 25


@dataclass(frozen=True)
class Found:
    """A seed's network: what is broken (None if it does not run by itself), what is refused."""

    seed: int
    broken: dict[str, str] | None
    refused: dict[str, str]
    exported: bool
    # Of the processor.
    seconds: float


def start() -> None:
    """One thread each, and no warnings of networks that are none of ours."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def check_seed(seed: int) -> Found:
    """Check the network of a seed."""
    started = time.process_time()
    spec, slow = draw(seed), seed % _EXPORTED == 0
    broken, refused = check(spec, slow=slow) if plain_runs(spec) else (None, {})
    return Found(seed, broken, refused, slow, round(time.process_time() - started, 2))
