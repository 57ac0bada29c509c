"""Weights as the kernels read them: rows of one input, padded to whole vectors of outputs."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ftwt.gates.forms import AffineForm, TableForm, form_of
from ftwt.runtime.native import structs
from ftwt.runtime.native.binding import constant

# Floats in half a way of a first cache of 32 KiB with 8 ways.
_CROWDED = 512


class GateWeights(NamedTuple):
    """A gate's kind, settings and tensors, named as in ftwt_step; None is not used."""

    kind: str
    pool: str | None
    normalize: str
    rank: int
    weight: Tensor
    bias: Tensor | None = None
    rows: Tensor | None = None
    weight2: Tensor | None = None
    bias2: Tensor | None = None

    def fill(self, step: structs.CStep) -> None:
        """Write settings and addresses into the struct."""
        step.kind, step.rank = structs.STEPS[self.kind], self.rank
        step.pool, step.normalize = (
            structs.POOL_CODES[self.pool],
            structs.NORMALIZER_CODES[self.normalize],
        )
        for name in ("weight", "bias", "rows", "weight2", "bias2"):
            tensor = getattr(self, name)
            setattr(step, name, tensor.data_ptr() if tensor is not None else None)


def gate_weights(module: nn.Module) -> GateWeights:
    """The weights of a gate that `supports` takes."""
    match form_of(module):
        case AffineForm(pool, normalize, weight, bias, None):
            layer = by_input(weight.detach()), padded(bias.detach())
            return GateWeights("gate", pool, normalize, 0, *layer, _sums(weight.detach()))
        case AffineForm(pool, normalize, weight, bias, (first, shift)):
            # Rows of the hidden outputs: these are few, and their inputs many.
            hidden = padded(first.detach()), padded(shift.detach())
            last = by_input(weight.detach()), padded(bias.detach())
            return GateWeights("gate", pool, normalize, len(first), *hidden, None, *last)
        case TableForm(logits):
            rows = logits.float().contiguous()
            return GateWeights("table", None, "none", rows.shape[0], rows)
        case _:
            raise AssertionError("supports() takes no such gate")


def by_filter(weight: Float[Tensor, "C_out C_in kh kw"]) -> Float[Tensor, "C_out row"]:
    """One row for each filter, a little apart where rows would crowd a few sets of the cache.

    Kernels read several filters at once, at the same place of each: rows that begin a multiple of
    half a way apart would push each other out of the first cache.
    """
    rows = weight.flatten(1)
    return F.pad(rows, (0, constant("MOST_LANES"))) if rows.shape[1] % _CROWDED == 0 else rows


def by_input(weight: Float[Tensor, "C_out C_in"]) -> Float[Tensor, "C_in*padded"]:
    """One row for each input, zeros after the last output; tile by tile of outputs."""
    return torch.cat(
        [tile.flatten() for tile in torch.split(padded(weight.t()), constant("TILE"), 1)]
    )


def padded(tensor: Float[Tensor, "... n"]) -> Float[Tensor, "... padded"]:
    """With zeros up to a whole number of the widest vectors."""
    return (
        F.pad(tensor.float(), (0, -tensor.shape[-1] % constant("MOST_LANES"))).contiguous().clone()
    )


def _sums(weight: Float[Tensor, "C_out C_in"]) -> Float[Tensor, "padded"]:
    return padded(weight.to(torch.float64).sum(1).float())
