"""What is known while a program runs on one batch."""

import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ftwt.graph.live import All, Evaluator, Live
from ftwt.runtime.program import Other, Step, Value


class ChannelRows:
    """Which channels each sample has; None where that is all of them."""

    def __init__(self, mask: Bool[Tensor, "B C"] | None) -> None:
        self.mask = mask
        self._uniform: bool | None = None
        self._indices: dict[int, Tensor | None] = {}

    @property
    def uniform(self) -> bool:
        """Whether all samples have the same."""
        if self._uniform is None:
            mask = self.mask
            self._uniform = mask is None or len(mask) == 1 or bool((mask == mask[:1]).all())
        return self._uniform

    @property
    def full(self) -> bool:
        """Whether every sample has every channel."""
        return self.mask is None or bool(self.mask.all())

    def index(self, sample: int) -> Tensor | None:
        """Places of one sample's channels, None for all."""
        if sample not in self._indices:
            self._indices[sample] = self._find(sample)
        return self._indices[sample]

    def _find(self, sample: int) -> Tensor | None:
        if self.mask is None:
            return None
        found = self.mask[sample].nonzero().view(-1)
        return None if len(found) == self.mask.shape[1] else found


class SiteMasks(Mapping[str, Tensor]):
    """Masks by site. Many are never looked at again, so they may be made when asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Tensor] = {}
        self._later: list[Mapping[str, Tensor]] = []

    def __setitem__(self, site: str, mask: Tensor) -> None:
        self._made[site] = mask

    def __getitem__(self, site: str) -> Tensor:
        if site not in self._made:
            found = next((masks for masks in self._later if site in masks), None)
            if found is None:
                raise KeyError(site)
            self._made[site] = found[site]
        return self._made[site]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._made, **{site: None for masks in self._later for site in masks}})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def later(self, masks: Mapping[str, Tensor]) -> None:
        """Add masks that are made when asked for."""
        self._later.append(masks)


class RunState:
    """Tensors and masks made so far for one batch.

    Args:
        batch: number of samples.
        device: where the inputs are.
        thresholds: of gates, by site; 0 where none is given.
        executed: where to note the MACs that gates, convolutions and linear layers execute, (B,)
            int64 for each; None not to count.
        times: where to note each step's milliseconds; None not to measure.
    """

    def __init__(
        self,
        batch: int,
        device: torch.device,
        thresholds: Mapping[str, float],
        executed: dict[Step, Tensor] | None = None,
        times: dict[Step, float] | None = None,
    ) -> None:
        self.batch, self.device = batch, device
        self.values: dict[Value | Other, Any] = {}
        self.masks = SiteMasks()
        self.thresholds = thresholds
        self.executed = executed
        self.times = times
        self._rows: dict[Live, ChannelRows] = {}
        self._filters: dict[str, ChannelRows] = {}

    @cached_property
    def _evaluate(self) -> Evaluator:
        return Evaluator(
            self.masks, torch.empty((self.batch, 0), dtype=torch.bool, device=self.device)
        )

    def rows(self, live: Live) -> ChannelRows:
        """The live channels of each sample."""
        found = self._rows.get(live)
        if found is None:
            mask = None if isinstance(live, All) else self._evaluate(live)
            found = self._rows[live] = ChannelRows(mask)
        return found

    def filters(self, site: str | None) -> ChannelRows:
        """The filters of a site that run for each sample."""
        key = site or ""
        found = self._filters.get(key)
        if found is None:
            found = self._filters[key] = ChannelRows(None if site is None else self.masks[site])
        return found

    def count(self, step: Step, samples: slice, macs: int) -> None:
        """Note what was executed for each of some samples."""
        if self.executed is None:
            return
        if step not in self.executed:
            self.executed[step] = torch.zeros(self.batch, dtype=torch.int64)
        self.executed[step][samples] += macs


def clock(device: torch.device) -> float:
    """Milliseconds, once a device has done everything before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() * 1e3
