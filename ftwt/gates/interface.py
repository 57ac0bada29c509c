"""What a gate and an estimator are."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ftwt.graph.sites import SiteShape


@runtime_checkable
class Gate(Protocol):
    """A gate's specification: a value that builds the gate's module for a site.

    The module maps the site's input, float (B, C_in, *space), to logits, float (B, C_out);
    a filter runs where its logit is positive.
    """

    def build(self, site: SiteShape) -> nn.Module:
        """Return a new module for `site`."""
        ...

    def macs(self, live: Shaped[Tensor, "B"], site: SiteShape) -> Shaped[Tensor, "B"]:
        """MACs of the gate for samples with `live` non-zero input channels."""
        ...


@runtime_checkable
class ReadsMaxima(Protocol):
    """A gate's module that may be given its input's maxima over space, float (B, C_in), instead."""

    @property
    def reads_maxima(self) -> bool:
        """Whether these are all that it reads of its input."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """Turns logits into the weights that multiply a site's output."""

    def __call__(
        self, logits: Float[Tensor, "B C"], *, training: bool = False
    ) -> Float[Tensor, "B C"]:
        """Return weights whose forward value is exactly 0 or 1, NaN where the logit is NaN.

        Out of training the answer is [logit > 0], without anything random.
        """
        ...
