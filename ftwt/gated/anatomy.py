"""What is known of a network before any image is seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from ftwt.graph.liveness import Liveness
from ftwt.graph.sites import Candidate
from ftwt.graph.tracing import Traced
from ftwt.macs import Plan

# The shape of one sample of each input.
Shapes: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Anatomy:
    """What attach found out about a network; it never changes, so copies of a model share it."""

    traced: Traced
    sites: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    liveness: Liveness
    plan: Plan
    expected: Shapes
    # Precision of each input of the example, and of the weights at that moment.
    dtypes: tuple[torch.dtype, ...]
    computes: torch.dtype | None
    # The same for inputs of other sizes, as they came: see `ftwt.gated.sizes`.
    sizes: dict[Shapes, "Anatomy"] = field(default_factory=dict, repr=False, compare=False)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "Anatomy":
        return self
