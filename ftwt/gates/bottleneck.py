"""A low-rank gate, for sites where a full linear layer costs too much."""

from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ftwt.errors import check_whole
from ftwt.gates.batch_norm import batch_norm, folded_linear, normalized
from ftwt.gates.forms import AffineForm
from ftwt.gates.opening import check_open, start_open
from ftwt.gates.pooling import Normalize, PoolKind, check_pooling, summarize, values_of
from ftwt.graph.sites import SiteShape


@dataclass(frozen=True)
class Bottleneck:
    """Logits = V relu(U normalize(pool(I)) + a) + b with U of `rank` rows.

    Costs rank * (C_in + C_out) MACs instead of C_in * C_out: for depthwise sites, where a full
    gate can cost more than the convolution, and for wide ones. With `open` every filter runs at
    first: V starts at zero and b at `open`.
    """

    rank: int
    pool: PoolKind = "max"
    normalize: Normalize = "softmax"
    open: float | None = None

    def __post_init__(self) -> None:
        check_whole("Bottleneck", "rank", self.rank)
        check_pooling("Bottleneck", self.pool, self.normalize)
        check_open("Bottleneck", self.open)

    def build(self, site: SiteShape) -> nn.Module:
        """Return the gate's module."""
        return _Bottleneck(self, site)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """Count values * live * rank + rank * C_out."""
        return live * (values_of(self.pool) * self.rank) + self.rank * site.out_channels


class _Bottleneck(nn.Module):
    def __init__(self, spec: Bottleneck, site: SiteShape) -> None:
        super().__init__()
        self.spec = spec
        last = nn.Linear(spec.rank, site.out_channels)
        start_open(last, spec.open)
        values = values_of(spec.pool) * site.in_channels
        self.norm = batch_norm(spec.normalize, values)
        self.layers = nn.Sequential(nn.Linear(values, spec.rank), nn.ReLU(), last)

    @property
    def reads_maxima(self) -> bool:
        """See `interface.reads_maxima`."""
        return self.spec.pool == "max"

    def forward(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_out"]:
        if self.norm is None or not self.norm.training:
            return self.form()(inputs)
        values = normalized(self.norm, summarize(inputs, self.spec.pool, "none"))
        return self._form(None, "none").of(values)

    def form(self) -> AffineForm:
        """See `HasForm`; that of evaluation."""
        return self._form(self.norm, self.spec.normalize if self.norm is None else "none")

    def _form(self, norm: nn.BatchNorm1d | None, normalize: Normalize) -> AffineForm:
        first, last = self.layers[0], self.layers[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        return AffineForm(
            self.spec.pool, normalize, last.weight, last.bias, folded_linear(norm, first)
        )
