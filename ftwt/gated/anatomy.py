"""What is known of a network before any image is seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftwt.graph.liveness import Liveness
from ftwt.graph.sites import Candidate
from ftwt.graph.tracing import Traced
from ftwt.macs import Plan


@dataclass(frozen=True)
class Anatomy:
    """What attach found out about a network; it never changes, so copies of a model share it."""

    traced: Traced
    sites: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    liveness: Liveness
    plan: Plan
    expected: tuple[tuple[int, ...], ...]

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "Anatomy":
        return self
