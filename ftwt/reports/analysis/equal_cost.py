"""Other ways to prune, brought to given exact MACs: static uniform masks, and top-k."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.pruning import Pruning
from ftwt.gates import Fixed, Oracle
from ftwt.graph.sites import Candidate
from ftwt.targets import TopK
from ftwt.training.evaluation import evaluate
from ftwt.training.inspection import Loader

# Halvings of the interval of shares: finer than one filter of a layer of 2,048.
_STATIC_STEPS = 12
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
    ranked = {site.name: _by_l1_norm(site) for site in model.anatomy.sites}

    def masks(counts: Mapping[str, int]) -> dict[str, Tensor]:
        return {name: _keep(order, counts[name]) for name, order in ranked.items()}

    def cost(counts: Mapping[str, int]) -> float:
        chosen = {name: mask[None] for name, mask in masks(counts).items()}
        return model.anatomy.plan.total(chosen).item()

    def counts(share: float) -> dict[str, int]:
        return {name: max(1, round(share * len(order))) for name, order in ranked.items()}

    least = cost(counts(0.0))
    if least > macs:
        raise FtwtError(
            f"static_uniform: {macs:,.0f} MACs are fewer than one filter in each layer costs, "
            f"{least:,.0f}; ask for more MACs"
        )
    share, _ = _bracket(lambda share: cost(counts(share)), macs, _STATIC_STEPS)
    kept = counts(share)
    for name, order in ranked.items():
        more = kept | {name: min(kept[name] + 1, len(order))}
        if cost(more) <= macs:
            kept = more
    return Fixed(masks(kept))


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

    def cost(fraction: float) -> float:
        target = TopK(max(fraction, 1e-6))
        model = attach(network, Pruning(gate=Oracle(), target=target), example=example)
        return evaluate(model, loader).macs

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


def _by_l1_norm(site: Candidate) -> Tensor:
    """Places of a convolution's filters, the largest weights first."""
    weight = getattr(site.module, "weight", None)
    if not isinstance(weight, Tensor):
        raise FtwtError(
            f"static_uniform: site {site.name!r} is no module with a weight, so its filters "
            "cannot be ranked; leave it out with where="
        )
    return _l1(weight.detach()).argsort(descending=True, stable=True)


def _l1(weight: Float[Tensor, "C_out C_in *kernel"]) -> Float[Tensor, " C_out"]:
    return weight.flatten(1).abs().sum(1)


def _keep(order: Tensor, count: int) -> Tensor:
    mask = torch.zeros(len(order), dtype=torch.bool)
    mask[order[:count].cpu()] = True
    return mask
