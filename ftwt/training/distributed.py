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

T = TypeVar("T")


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

    Raises:
        FtwtError: another process ended, so that this one cannot go on.
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
    except (RuntimeError, ConnectionError) as error:
        if not _lost(error):
            raise
        here = world()
        raise FtwtError(
            f"train: process {here.rank + 1} of {here.size} lost the others, one of them has "
            "ended; the last saved state is whole, look above for that one's error, then start "
            "the job again with --resume"
        ) from None
    finally:
        dist.destroy_process_group()


def on_main(action: Callable[[], T]) -> T:
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
    given: T = box[0]
    return given


def gathered(value: T) -> list[T]:
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


def parallel(step: nn.Module, device: torch.device) -> nn.Module:
    """A training step whose gradients are averaged over the processes."""
    if world().size == 1:
        return step
    # A gate that no loss reaches has no gradient; without looking for it the others would wait.
    return DistributedDataParallel(
        step,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=True,
    )


def without_averaging(step: nn.Module) -> AbstractContextManager[None]:
    """Add up gradients of more batches before they are averaged over the processes."""
    if isinstance(step, DistributedDataParallel):
        quiet: AbstractContextManager[None] = step.no_sync()
        return quiet
    return nullcontext()


def _lost(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, (dist.DistError, ConnectionError)) or any(
        sign in text for sign in ("gloo", "Connection closed", "Connection reset", "Broken pipe")
    )
