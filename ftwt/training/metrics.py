"""Sums over an epoch's batches, kept on the device."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.gated.trace import Trace
from ftwt.losses import Report
from ftwt.training.distributed import largest_over_processes, sum_over_processes, world
from ftwt.training.tasks import Task

_LOSS = "loss:"
_TOTAL = "loss:loss"


class EpochMeans(NamedTuple):
    """Means over the batches so far; accuracies are fractions, `losses["loss"]` is their sum.

    `accuracy` is None where the task cannot tell it while it trains.
    """

    losses: dict[str, float]
    accuracy: float | None
    mask_accuracy: float | None
    images: int
    images_per_second: float


@torch.no_grad()
def batch_sums(trace: Trace, wanted: Any, report: Report, task: Task) -> dict[str, Tensor]:
    """What a batch adds to the sums: losses, right answers, right mask bits."""
    sums = {f"{_LOSS}{name}": part.detach().double() for name, part in report.parts.items()}
    sums[_TOTAL] = report.total.detach().double()
    right = task.right(trace.output, wanted)
    if right is not None:
        sums["right"] = right
    # Masks that nothing learns, such as fixed ones, are neither right nor wrong.
    pairs = [
        (site.mask, site.target)
        for site in trace.sites.values()
        if site.target is not None and site.logits is not None and site.logits.requires_grad
    ]
    if pairs:
        masks, targets = (torch.cat(side, 1) for side in zip(*pairs, strict=True))
        sums["mask_right"] = (masks == targets).sum()
        sums["mask_count"] = torch.full_like(sums["mask_right"], masks.numel())
    return sums


@dataclass
class Metrics:
    """Sums over the batches of an epoch so far, of this process's images."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    batches: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, batch: dict[str, Tensor], images: int) -> None:
        """Count one more batch. Nothing waits for the device here."""
        bad = ~torch.isfinite(batch[_TOTAL])
        good = ~bad & (self.sums.get("bad", bad) == 0)
        for name, value in {**batch, "good_batches": good.long(), "bad": bad.long()}.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.batches += 1
        self.images += images

    def means(self, *, shared: bool = False) -> EpochMeans:
        """Means so far, of all processes together if `shared` (which all have to ask for)."""
        names = sorted(self.sums)
        values = [self.sums[name].double() for name in names]
        numbers = torch.stack([*values, torch.full_like(values[0], self.images)])
        if shared:
            numbers = sum_over_processes(numbers)
        *found, images = numbers.tolist()
        total = dict(zip(names, found, strict=True))
        batches = self.batches * (world().size if shared else 1)
        count = total.get("mask_count")
        return EpochMeans(
            losses={
                name.removeprefix(_LOSS): total[name] / batches
                for name in self.sums
                if name.startswith(_LOSS)
            },
            accuracy=total["right"] / images if "right" in total else None,
            mask_accuracy=total["mask_right"] / count if count else None,
            images=int(images),
            images_per_second=images / max(self.seconds, 1e-9),
        )

    def check_finite(self, epoch: int) -> None:
        """Raise FtwtError in all processes if a loss of one of them was not finite.

        This waits for the device, so it is called now and then; which batch was the first bad one
        is found on the device.
        """
        own = int(self.sums["bad"].item())
        if not largest_over_processes(own, self.sums["bad"].device):
            return
        where = f"batch {int(self.sums['good_batches'].item()) + 1}"
        names = [
            name.removeprefix(_LOSS)
            for name, value in self.sums.items()
            if name.startswith(_LOSS) and name != _TOTAL and not math.isfinite(value.item())
        ]
        found = f"{where} ({', '.join(names)})" if own else "a batch of another process"
        raise FtwtError(
            f"fit: the loss is not finite at epoch {epoch + 1}, {found}; the weights of the last "
            "good epoch are kept, lower the learning rate or look for bad values in that batch"
        )
