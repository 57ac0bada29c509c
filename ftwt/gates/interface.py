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
class ReadsMaxima(Protocol):
    """A gate's module that may be given its input's maxima over space, float (B, C_in), instead."""

    @property
    def reads_maxima(self) -> bool:
        """Whether these are all that it reads of its input."""
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
class AnswersTarget(Protocol):
    """A gate that may answer with the target itself: its module is not called then."""

    @property
    def answers_target(self) -> bool:
        """Whether it does. It reads the output that a gate should save, so nothing can skip."""
        ...


def is_oracle(gate: Gate) -> bool:
    """Whether a gate answers with the target itself."""
    return isinstance(gate, AnswersTarget) and gate.answers_target


@runtime_checkable
class PrunesStatically(Protocol):
    """A gate that may have masks that were given, and nothing to learn."""

    @property
    def static(self) -> bool:
        """Whether it does."""
        ...


def is_static(gate: Gate) -> bool:
    """Whether a gate's masks were given, so that it has nothing to learn."""
    return isinstance(gate, PrunesStatically) and gate.static


@runtime_checkable
class FollowsInput(Protocol):
    """A gate's module that may take over the mask of its input: it is not called then."""

    @property
    def follows(self) -> bool:
        """Whether it does. Filter i then runs where channel i of the input is live."""
        ...


def follows_input(module: nn.Module) -> bool:
    """Whether a gate's module takes over the mask of its input."""
    return isinstance(module, FollowsInput) and module.follows


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


@runtime_checkable
class ComparesWithZero(Protocol):
    """An estimator that may say that it is a plain threshold, which kernels know."""

    @property
    def compares(self) -> bool:
        """Whether its answer out of training is [logit > 0], without anything random."""
        ...


@runtime_checkable
class HasConstantWeights(Protocol):
    """An estimator that may say that no gradient passes it."""

    @property
    def constant(self) -> bool:
        """Whether its weights never require gradient."""
        ...


def compares_with_zero(estimator: Estimator) -> bool:
    """Whether an estimator is, out of training, [logit > 0]."""
    return isinstance(estimator, ComparesWithZero) and estimator.compares


def has_constant_weights(estimator: Estimator) -> bool:
    """Whether no gradient ever passes an estimator."""
    return isinstance(estimator, HasConstantWeights) and estimator.constant
