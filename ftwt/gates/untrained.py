"""Gates without parameters: the oracle, fixed masks, random masks."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ftwt.errors import FtwtError, check_within
from ftwt.gates.forms import TableForm
from ftwt.graph.sites import SiteShape

Mask: TypeAlias = Tensor | Sequence[bool] | Sequence[Sequence[bool]]

# Masks that a random gate holds; a larger batch starts over.
_ROWS = 64


@dataclass(frozen=True)
class Oracle:
    """A perfect gate: it answers with the target itself, at no cost.

    It reads the site's own output, which no real gate can, so it tells what a target rule would
    save and cost before any training.
    """

    answers_target: ClassVar[bool] = True

    def build(self, site: SiteShape) -> nn.Module:
        """Return an empty module; the site asks its target rule instead."""
        return nn.Identity()

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """Return zero MACs."""
        return torch.zeros_like(live)


@dataclass(frozen=True)
class Fixed:
    """The same masks for every input (static pruning), given by site name.

    A mask is a sequence of C_out booleans or a bool tensor (C_out,); a tensor (B, C_out) gives
    each sample of a batch of B its own row. Sites that are not named run every filter.
    """

    masks: Mapping[str, tuple[tuple[bool, ...], ...]]

    static: ClassVar[bool] = True

    def __init__(self, masks: Mapping[str, Mask]) -> None:
        rows = {name: _rows(name, mask) for name, mask in masks.items()}
        object.__setattr__(self, "masks", rows)

    def __hash__(self) -> int:
        return hash(tuple(self.masks.items()))

    @property
    def named_sites(self) -> tuple[str, ...]:
        """The sites that have a mask."""
        return tuple(self.masks)

    def build(self, site: SiteShape) -> nn.Module:
        """Return a module that holds the site's mask."""
        rows = self.masks.get(site.name, ((True,) * site.out_channels,))
        table = torch.tensor(rows, dtype=torch.bool)
        if table.shape[1] != site.out_channels:
            raise FtwtError(
                f"Fixed: the mask for {site.name!r} has {table.shape[1]} channels, but the site "
                f"has {site.out_channels} filters; give one boolean for each filter"
            )
        return _Table(table, cycle=False, name=site.name)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """Return zero MACs."""
        return torch.zeros_like(live)


@dataclass(frozen=True)
class Random:
    """Keep max(1, round(fraction * C_out)) random filters, others for each sample of a batch.

    The draw depends on the seed, the site's name and the sample's place in the batch alone, so a
    model answers the same twice. For benchmarks and tests of untrained networks.
    """

    fraction: float
    seed: int = 0

    def __post_init__(self) -> None:
        mend = "give the share of filters to keep, for example 0.5"
        check_within("Random", "fraction", self.fraction, "(0, 1]", mend)

    def build(self, site: SiteShape) -> nn.Module:
        """Return a module that holds a table of masks; samples beyond its rows start over."""
        generator = torch.Generator().manual_seed(self.seed ^ zlib.crc32(site.name.encode()))
        draws = torch.rand(_ROWS, site.out_channels, generator=generator)
        count = max(1, round(self.fraction * site.out_channels))
        table = draws.argsort(1).argsort(1) < count
        return _Table(table, cycle=True, name=site.name)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """Return zero MACs."""
        return torch.zeros_like(live)


def _rows(name: str, mask: Mask) -> tuple[tuple[bool, ...], ...]:
    table = torch.as_tensor(mask)
    if table.dtype != torch.bool or table.dim() not in (1, 2) or table.numel() == 0:
        raise FtwtError(
            f"Fixed: the mask for {name!r} is {table.dtype} of shape {tuple(table.shape)}; "
            "give booleans of shape (C_out,) or (B, C_out)"
        )
    return tuple(tuple(row) for row in table.view(-1, table.shape[-1]).tolist())


class _Table(nn.Module):
    """Answers with rows of a table of masks, whatever the input."""

    def __init__(self, table: Tensor, *, cycle: bool, name: str) -> None:
        super().__init__()
        self.cycle, self.name = cycle, name
        self.register_buffer("logits", table.float() - 0.5, persistent=False)

    def form(self) -> TableForm:
        """See `HasForm`."""
        return TableForm(self.get_buffer("logits"), self.cycle)

    def forward(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_out"]:
        logits = self.get_buffer("logits")
        batch, rows = inputs.shape[0], logits.shape[0]
        if rows == 1:
            return logits.expand(batch, -1)
        if self.cycle:
            return logits[torch.arange(batch, device=logits.device) % rows]
        if batch != rows:
            raise FtwtError(
                f"Fixed: the mask for {self.name!r} has {rows} rows, but the batch has "
                f"{batch} samples; give one row for all, or one for each sample"
            )
        return logits
