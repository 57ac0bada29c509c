"""The processes of one job, as torchrun starts them; torch.distributed does the work."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ftwt.errors import FtwtError

_T = TypeVar("_T")


class World(NamedTuple):
    """The place of this process among those of the job."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0


def world() -> World:
    """This process's place; the only one, where no job was joined."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the job that torchrun started, if it did, and give this process's own device.

    Processes talk over NCCL where they train on CUDA devices, else over gloo.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


@contextmanager
def needing_others() -> Iterator[None]:
    """Say so where another process ended, which this one cannot go on without.

    Raises:
        FtwtError: another process ended.
    """
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        here = world()
        if here.size == 1 or not _lost(error):
            raise
        raise FtwtError(
            f"train: rank {here.rank} of {here.size} lost the others, one of them has ended "
            "(its own message says why); the last saved state is whole, start the job again with "
            "--resume"
        ) from None


def on_main(action: Callable[[], _T]) -> _T:
    """Do something in the main process only; what it gives or raises comes to all of them."""
    here = world()
    if here.size == 1:
        return action()
    box: list[Any] = [None, None]
    if here.main:
        try:
            box[0] = action()
        except FtwtError as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    given: _T = box[0]
    return given


def gathered(value: _T) -> list[_T]:
    """The value of each process, in the order of their ranks."""
    size = world().size
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    dist.all_gather_object(values, value)
    return values


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of what the processes have."""
    if world().size > 1:
        dist.all_reduce(values)
    return values


def largest_over_processes(number: int, device: torch.device) -> int:
    """The largest of the processes' numbers."""
    if world().size == 1:
        return number
    box = torch.tensor(number, device=device)
    dist.all_reduce(box, dist.ReduceOp.MAX)
    return int(box.item())


def share_buffers(model: nn.Module) -> None:
    """Give all processes the main one's buffers: each had batch statistics of its own images."""
    if world().size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def parallel(step: nn.Module, inputs: Any, wanted: Any, device: torch.device) -> nn.Module:
    """A training step whose gradients are averaged over the processes.

    Args:
        step: gives (loss, anything) for inputs and what is wanted.
        inputs: a batch, to see which parameters the loss reaches.
        wanted: what is wanted of the batch, such as labels.
        device: where the network is.
    """
    if world().size == 1:
        return step
    # A parameter that no loss reaches (a gate without a loss of its own) would keep all processes
    # waiting for its gradient, unless they look for such at every step; so they look only if there
    # is one.
    unreached = largest_over_processes(_unreached(step, inputs[:2], wanted[:2]), device)
    return DistributedDataParallel(
        step,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=unreached > 0,
    )


def without_averaging(step: nn.Module) -> AbstractContextManager[None]:
    """Add up gradients of more batches before they are averaged over the processes."""
    if isinstance(step, DistributedDataParallel):
        quiet: AbstractContextManager[None] = step.no_sync()
        return quiet
    return nullcontext()


def _unreached(step: nn.Module, inputs: Any, wanted: Any) -> int:
    """How many parameters have no gradient; the step's state is left as it was."""
    buffers = [buffer.clone() for buffer in step.buffers()]
    with torch.random.fork_rng():
        loss, _ = step(inputs, wanted)
        loss.backward()
    trained = [one for one in step.parameters() if one.requires_grad]
    found = sum(one.grad is None for one in trained)
    step.zero_grad(set_to_none=True)
    for buffer, value in zip(step.buffers(), buffers, strict=True):
        buffer.copy_(value)
    return found


def _lost(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, (dist.DistError, ConnectionError)) or any(
        sign in text for sign in ("gloo", "Connection closed", "Connection reset", "Broken pipe")
    )
