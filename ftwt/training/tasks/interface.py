"""What a task is."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.losses import Objective


class Meter(Protocol):
    """Metrics over a data set, batch by batch."""

    def update(self, answer: Any, wanted: Any) -> None:
        """Take in one batch: what the network answered and what was wanted.

        Raises:
            FtwtError: the two do not fit the task.
        """
        ...

    def compute(self) -> Mapping[str, float]:
        """The metrics by name."""
        ...


@runtime_checkable
class Task(Protocol):
    """What a network is for, as a frozen value."""

    @property
    def score(self) -> str:
        """The metric that says which of two networks is better."""
        ...

    @property
    def larger_is_better(self) -> bool:
        """Whether a larger score is the better one."""
        ...

    def pair(self, batch: Any, called: str) -> tuple[Any, Any]:
        """The inputs and what is wanted, of a loader's batch; each has a length, the images.

        Raises:
            FtwtError: the batch is something else; `called` asked for it.
        """
        ...

    def ask(self, network: nn.Module, inputs: Any, wanted: Any) -> Any:
        """What the network returns for a batch; some want to be shown what is wanted to train."""
        ...

    def answer(self, output: Any) -> Any:
        """What losses and metrics read, of what the network returned."""
        ...

    def loss(self) -> Objective:
        """The loss that this task is usually trained by."""
        ...

    def right(self, answer: Any, wanted: Any) -> Float[Tensor, ""] | None:
        """How many images of a training batch are right; None where that cannot be told.

        Raises:
            FtwtError: the two do not fit the task.
        """
        ...

    def meter(self, device: torch.device, *, shared: bool = False) -> Meter:
        """A new meter; `shared` sums up over the processes of a job, which all have to ask."""
        ...


class _Answering(nn.Module):
    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.network, self.task = network, task

    def forward(self, *inputs: Any) -> Any:
        return self.task.answer(self.network(*inputs))


def answering(network: nn.Module, task: Task) -> nn.Module:
    """A network that returns what the task reads of its output, for a teacher."""
    return network if getattr(task, "logits", None) is None else _Answering(network, task)
