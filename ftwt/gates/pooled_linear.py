"""The paper's gate: global pooling, softmax, one linear layer."""

from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ftwt.gates.forms import AffineForm
from ftwt.gates.opening import check_open, start_open
from ftwt.gates.pooling import Normalize, Pool, check_pooling
from ftwt.graph.sites import SiteShape


@dataclass(frozen=True)
class PooledLinear:
    """Logits = W softmax(pool(I)) + b (FTWT, arXiv 2110.08232, figure 3 and its caption).

    The paper pools by the maximum, its published code by the mean. The linear layer is the
    paper's 1x1 convolution on a 1x1 map.

    A softmax over C channels leaves values around 1 / C that vary little between images, so in
    short trainings the bias decides and every image gets the same filters. `normalize="layer"`
    (zero mean and unit variance over channels, without parameters) is better conditioned.

    With `open` every filter runs at first: W starts at zero and b at `open`, so that training
    closes filters, from the dense network on. None starts as torch's linear layer does.
    """

    pool: Pool = "max"
    normalize: Normalize = "softmax"
    open: float | None = None

    def __post_init__(self) -> None:
        check_open("PooledLinear", self.open)
        check_pooling("PooledLinear", self.pool, self.normalize)

    def build(self, site: SiteShape) -> nn.Module:
        """Return the gate's module: C_in * C_out weights and C_out biases."""
        return _PooledLinear(self, site)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """Count live * C_out; dead channels all normalise to one value, times a row sum."""
        return live * site.out_channels


class _PooledLinear(nn.Module):
    def __init__(self, spec: PooledLinear, site: SiteShape) -> None:
        super().__init__()
        self.spec = spec
        self.linear = nn.Linear(site.in_channels, site.out_channels)
        start_open(self.linear, spec.open)

    @property
    def reads_maxima(self) -> bool:
        """See `ReadsMaxima`."""
        return self.spec.pool == "max"

    def forward(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_out"]:
        return self.form()(inputs)

    def form(self) -> AffineForm:
        """See `HasForm`."""
        return AffineForm(self.spec.pool, self.spec.normalize, self.linear.weight, self.linear.bias)
