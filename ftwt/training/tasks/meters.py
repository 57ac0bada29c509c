"""Meters: sums on a device, and torchmetrics' own."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.training.distributed import sum_over_processes


@dataclass
class MeanMeter:
    """Means over images, or over whatever "count" counts.

    `sums_of` gives what a batch adds, by the metrics' names, and "count".
    """

    sums_of: Callable[[Any, Any], Mapping[str, Tensor]]
    device: torch.device
    shared: bool
    sums: dict[str, Tensor] = field(default_factory=dict)

    def update(self, answer: Any, wanted: Any) -> None:
        """Add a batch."""
        for name, value in self.sums_of(answer, wanted).items():
            value = value.to(self.device, torch.float64)
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def compute(self) -> dict[str, float]:
        """Each sum over the count."""
        values = torch.stack([self.sums[name] for name in self.sums])
        totals = (sum_over_processes(values) if self.shared else values).tolist()
        found = dict(zip(self.sums, totals, strict=True))
        count = found.pop("count")
        return {name: value / count for name, value in found.items()}


@dataclass
class TorchmetricsMeter:
    """A metric of torchmetrics; `prepare` checks a batch and gives what the metric takes."""

    metric: Any
    prepare: Callable[[Any, Any], tuple[Any, Any]]
    names: Mapping[str, str]

    def update(self, answer: Any, wanted: Any) -> None:
        """Add a batch."""
        self.metric.update(*self.prepare(answer, wanted))

    def compute(self) -> dict[str, float]:
        """What the metric says, under our names."""
        found = self.metric.compute()
        found = found if isinstance(found, dict) else {"": found}
        return {own: float(found[theirs]) for own, theirs in self.names.items()}


@dataclass
class TwoMeters:
    """Two meters of the same batches."""

    first: Any
    second: Any

    def update(self, answer: Any, wanted: Any) -> None:
        """Add a batch to both."""
        self.first.update(answer, wanted)
        self.second.update(answer, wanted)

    def compute(self) -> dict[str, float]:
        """The metrics of both."""
        return {**self.first.compute(), **self.second.compute()}


def torchmetrics(module: str, needed_by: str) -> Any:
    """A module of torchmetrics.

    Raises:
        FtwtError: it is not installed.
    """
    try:
        return importlib.import_module(f"torchmetrics.{module}")
    except ModuleNotFoundError:
        raise FtwtError(
            f"{needed_by}: its metrics come from torchmetrics, which is not installed; run "
            "`pip install ftwt[tasks]`"
        ) from None
