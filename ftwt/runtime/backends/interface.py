"""What a back end is."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch

from ftwt.runtime.program import Step, Value
from ftwt.runtime.state import RunState

# Runs some steps: reads values and masks of the state, and adds those that it makes.
Runnable: TypeAlias = Callable[[RunState], None]


class Backend(Protocol):
    """Something that runs steps.

    Between parts, tensors are (B, *shape) with dead channels at exactly zero and masks are bool
    (B, C). A part that counts adds to `State.executed` the MACs that it really executes.
    """

    @property
    def name(self) -> str:
        """What plans call it."""
        ...

    @property
    def fuses(self) -> bool:
        """Whether it wants consecutive steps at once, and keeps what passes between them."""
        ...

    @property
    def runs_on(self) -> frozenset[tuple[torch.dtype, str]] | None:
        """Precisions and types of device; None for any."""
        ...

    @property
    def dense(self) -> bool:
        """Whether it computes every filter, whatever the masks say."""
        ...

    @property
    def whole(self) -> bool:
        """Whether it is worth it from end to end only, as the form of its results costs others."""
        ...

    def takes(self, step: Step) -> bool:
        """Whether it runs a step."""
        ...

    def prepare(self, steps: Sequence[Step], writes: Sequence[Value], batch: int) -> Runnable:
        """Make ready what can be ready before a batch comes.

        Args:
            steps: consecutive ones, all taken; a single one for a back end that does not fuse.
            writes: the values made by these steps that others read.
            batch: number of samples of every batch that will come.
        """
        ...
