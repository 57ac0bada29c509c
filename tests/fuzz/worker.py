"""What each process of a run does."""

import warnings

import torch

from tests.fuzz.checks import check, plain_runs
from tests.fuzz.spec import Spec, draw

# Exporting takes seconds, so only each so manieth network is exported.
_EXPORTED = 25


def start() -> None:
    """One thread each, and no warnings of networks that are none of ours."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def check_seed(seed: int) -> tuple[Spec, dict[str, str] | None, dict[str, str]]:
    """A seed's network, what is broken (None if it does not run by itself), what is refused."""
    spec = draw(seed)
    if not plain_runs(spec):
        return spec, None, {}
    broken, refused = check(spec, slow=seed % _EXPORTED == 0)
    return spec, broken, refused
