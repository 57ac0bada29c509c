"""The paper's gate: global pooling, softmax, one linear layer."""

from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ftwt.gates.batch_norm import batch_norm, folded_linear, normalized
from ftwt.gates.forms import AffineForm
from ftwt.gates.opening import check_open, start_open
from ftwt.gates.pooling import Normalize, PoolKind, check_pooling, summarize, values_of
from ftwt.graph.sites import SiteShape


@dataclass(frozen=True)
class PooledLinear:
    """Logits = W softmax(pool(I)) + b (FTWT, arXiv 2110.08232, figure 3 and its caption).

    The paper pools by the maximum, its published code by the mean. The linear layer is the
    paper's 1x1 convolution on a 1x1 map.

    A softmax over C channels leaves values around 1 / C that vary little between images, so in
    short trainings the bias decides and every image gets the same filters. `normalize="layer"`
    (zero mean and unit variance over channels, without parameters) is better conditioned.
    `normalize="batch"` (over images, with running statistics; arXiv 1502.03167) leaves just what
    tells images apart, and costs nothing when the gate runs, where it is part of the weights.

    `pool="mean_std"` reads two numbers of each channel, its mean and its standard deviation over
    space, and costs twice as many MACs.

    With `open` every filter runs at first: W starts at zero and b at `open`, so that training
    closes filters, from the dense network on. None starts as torch's linear layer does.
    """

    pool: PoolKind = "max"
    normalize: Normalize = "softmax"
    open: float | None = None

    def __post_init__(self) -> None:
        check_open("PooledLinear", self.open)
        check_pooling("PooledLinear", self.pool, self.normalize)

    def build(self, site: SiteShape) -> nn.Module:
        """Return the gate's module: values * C_in * C_out weights and C_out biases."""
        return _PooledLinear(self, site)

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """Count values * live * C_out; dead channels normalise to one value, times a row sum."""
        return live * (values_of(self.pool) * site.out_channels)


class _PooledLinear(nn.Module):
    def __init__(self, spec: PooledLinear, site: SiteShape) -> None:
        super().__init__()
        self.spec = spec
        values = values_of(spec.pool) * site.in_channels
        self.norm = batch_norm(spec.normalize, values)
        self.linear = nn.Linear(values, site.out_channels)
        start_open(self.linear, spec.open)

    @property
    def reads_maxima(self) -> bool:
        """See `interface.reads_maxima`."""
        return self.spec.pool == "max"

    def forward(self, inputs: Float[Tensor, "B C_in *space"]) -> Float[Tensor, "B C_out"]:
        if self.norm is None or not self.norm.training:
            return self.form()(inputs)
        form = AffineForm(self.spec.pool, "none", self.linear.weight, self.linear.bias)
        return form.of(normalized(self.norm, summarize(inputs, self.spec.pool, "none")))

    def form(self) -> AffineForm:
        """See `HasForm`; that of evaluation."""
        normalize = self.spec.normalize if self.norm is None else "none"
        return AffineForm(self.spec.pool, normalize, *folded_linear(self.norm, self.linear))
