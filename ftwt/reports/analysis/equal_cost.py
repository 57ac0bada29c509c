"""Other ways to prune, brought to given exact MACs: static uniform masks, and top-k."""

from collections.abc import Callable
from functools import cache

from torch import Tensor, nn

from ftwt.budget.static import uniform_masks, weight_scores
from ftwt.gated.attach import attach
from ftwt.gated.escalation.settings import with_pruning
from ftwt.gated.pruning import Pruning
from ftwt.gates import Fixed, Oracle
from ftwt.targets import TopK
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import Loader

# Each is a pass over images.
_TOP_K_STEPS = 8


def static_uniform(
    network: nn.Module, macs: float, *, example: Tensor | tuple[Tensor, ...]
) -> Fixed:
    """Masks that keep the same share of filters in each layer, whatever the image, at given MACs.

    A layer keeps the filters whose weights have the largest L1 norm (Li et al., arXiv 1608.08710,
    section 3.1). The share is the largest that costs at most `macs`; what is left of these goes to
    one filter more in a layer, first layers first, so that narrow layers come near to `macs` too.

    Args:
        network: a plain network; it is left untouched.
        macs: exact MACs of one sample to reach.
        example: an input of the network; MACs are counted for its shape.

    Raises:
        FtwtError: even one filter a layer costs more than `macs`.
    """
    model = attach(network, Pruning(gate=Fixed({})), example=example)
    return uniform_masks(model, weight_scores(model), macs)


def oracle_top_k(
    network: nn.Module, macs: float, loader: Loader, *, example: Tensor | tuple[Tensor, ...]
) -> TopK:
    """The top-k target whose oracle costs the nearest to `macs` on average.

    One share for all layers is coarse where layers are narrow: with 16 filters it has steps of 6 %.

    Args:
        network: a plain network; it is left untouched.
        macs: mean exact MACs of one sample to reach; an oracle's gates cost nothing.
        loader: gives (images, labels), and can be iterated again and again.
        example: an input of the network; MACs are counted for its shape.
    """
    model = attach(network, Pruning(gate=Oracle()), example=example)

    @cache
    def cost(fraction: float) -> float:
        target = TopK(max(fraction, 1e-6))
        return evaluate(with_pruning(model, Pruning(gate=Oracle(), target=target)), loader).macs

    low, high = _bracket(cost, macs, _TOP_K_STEPS)
    nearest = min((low, high), key=lambda fraction: abs(cost(fraction) - macs))
    return TopK(max(nearest, 1e-6))


def _bracket(cost: Callable[[float], float], macs: float, steps: int) -> tuple[float, float]:
    """Two near shares in [0, 1], of which the first costs at most `macs` and the second more.

    Both are 1 where even that costs no more. Costs rise with the share, or are nearly so.
    """
    if cost(1.0) <= macs:
        return 1.0, 1.0
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= macs else (low, middle)
    return low, high
