"""What a gate's module computes, told in numbers, so that kernels need not know its type."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ftwt.gates.pooling import Normalize, PoolKind, summarize


@dataclass(frozen=True, eq=False)
class AffineForm:
    """logits = weight z + bias with z = normalize(pool(I)), or z = relu(W normalize(pool(I)) + b).

    `hidden` is that W (rank, values) and b (rank,), of a gate of low rank; a pooling leaves one or
    two values of each channel. The tensors are the module's own parameters, not copies, unless
    batch norm is folded into them.

    Example:
        >>> form = AffineForm("mean", "none", torch.eye(2), torch.tensor([0.0, -3.0]))
        >>> form(torch.ones(1, 2, 4, 4))
        tensor([[ 1., -2.]])
    """

    pool: PoolKind
    normalize: Normalize
    weight: Float[Tensor, "C_out inner"]
    bias: Float[Tensor, "C_out"]
    hidden: tuple[Float[Tensor, "rank values"], Float[Tensor, "rank"]] | None = None

    def __call__(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_out"]:
        """The logits; inputs without space are pooled already."""
        return self.of(summarize(inputs, self.pool, self.normalize))

    def of(self, values: Float[Tensor, "B values"]) -> Float[Tensor, "B C_out"]:
        """The logits of inputs that are summarised already."""
        # Outside autocast: rounding logits to half precision would flip masks near zero.
        # Tensors without data (meta) have no autocast to leave.
        kind = values.device.type if not values.is_meta else "cpu"
        with torch.autocast(kind, enabled=False):
            values = values.to(self.weight.dtype)
            if self.hidden is not None:
                values = F.relu(F.linear(values, *self.hidden))
            return F.linear(values, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class TableForm:
    """Logits that do not depend on the input: one row for all samples, or a row for each.

    With `cycle` samples beyond the last row start over.
    """

    logits: Float[Tensor, "rows C_out"]
    cycle: bool = False


Form: TypeAlias = AffineForm | TableForm


@runtime_checkable
class HasForm(Protocol):
    """A gate's module that tells what it computes: its `forward` answers the same.

    Kernels then run it without calling it, `slicing.narrow` drops rows of it, and benches set its
    bias. `form` is asked anew after weights have changed or moved.
    """

    def form(self) -> Form | None:
        """The form, with the weights as they are now; None where no form tells all of it."""
        ...


def form_of(module: object) -> Form | None:
    """What a gate's module computes, if it tells."""
    return module.form() if isinstance(module, HasForm) else None
