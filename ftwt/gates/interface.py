"""What a gate and an estimator are."""

from collections.abc import Sequence
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
class SharesModule(Protocol):
    """A gate whose sites share one module: an embedding of the image, of a task, or of the sites.

    The shared module is called once a pass with the network's inputs, and with what
    `model.context(...)` gives, by name; it has to do without a context, if only to be counted. Each
    site's module is called with its answer, as `module(inputs, answer)`.
    """

    def prepare(self, sites: Sequence[SiteShape]) -> nn.Module:
        """Return a new module for all sites of a network, in running order."""
        ...


@runtime_checkable
class ChoosesGate(Protocol):
    """A gate that is another one at each site."""

    def chosen(self, site: SiteShape) -> Gate:
        """The gate that `site` gets."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """Turns logits into the weights that multiply a site's output."""

    def weights(
        self, logits: Float[Tensor, "B C"], *, training: bool = False
    ) -> Float[Tensor, "B C"]:
        """Return weights whose forward value is exactly 0 or 1, NaN where the logit is NaN."""
        ...


# What a gate, its module or an estimator may say of itself, by an attribute.


def is_oracle(gate: Gate) -> bool:
    """Whether a gate answers with the target itself: `answers_target`. Its module is not called.

    It reads the output that a gate should save, so nothing can skip.
    """
    return bool(getattr(gate, "answers_target", False))


def is_static(gate: Gate) -> bool:
    """Whether a gate's masks were given, so that it has nothing to learn: `static`."""
    return bool(getattr(gate, "static", False))


def follows_input(module: nn.Module) -> bool:
    """Whether a gate's module takes over the mask of its input: `follows`. It is not called then.

    Filter i runs where channel i of the input is live.
    """
    return bool(getattr(module, "follows", False))


def reads_maxima(module: nn.Module) -> bool:
    """Whether a module reads its input's maxima over space alone: `reads_maxima`.

    It then takes these, float (B, C_in), in place of its input.
    """
    return bool(getattr(module, "reads_maxima", False))


def compares_with_zero(estimator: Estimator) -> bool:
    """Whether an estimator is, out of training, [logit > 0] and nothing random: `compares`."""
    return bool(getattr(estimator, "compares", False))


def has_constant_weights(estimator: Estimator) -> bool:
    """Whether no gradient ever passes an estimator: `constant`."""
    return bool(getattr(estimator, "constant", False))
