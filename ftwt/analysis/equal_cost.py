"""Other ways to prune, brought to given exact MACs: static uniform masks, and top-k."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.analysis.inspection import Loader
from ftwt.attach import attach
from ftwt.errors import FtwtError
from ftwt.gates import Fixed, Oracle
from ftwt.model import Gated, Pruning
from ftwt.sites import Candidate
from ftwt.targets import TopK
from ftwt.training.evaluation import evaluate

# Halvings of the interval of fractions: finer than one filter of a layer of 2,048.
_STATIC_STEPS = 20
# Each step is a pass over images; a sixteenth of a percent is finer than what is compared.
_TOP_K_STEPS = 8


def static_uniform(
    network: nn.Module, macs: float, *, example: Tensor | tuple[Tensor, ...]
) -> Fixed:
    """Masks that keep the same share of filters in each layer, whatever the image, at given MACs.

    A layer keeps the filters whose weights have the largest L1 norm (Li et al., arXiv 1608.08710,
    section 3.1). The share is the largest that costs at most `macs`, so that pruning by masks
    never gets more than it is compared with.

    Args:
        network: a plain network; it is left untouched.
        macs: exact MACs of one sample to reach.
        example: an input of the network; MACs are counted for its shape.

    Raises:
        FtwtError: even one filter a layer costs more than `macs`.
    """
    model = attach(network, Pruning(gate=Fixed({})), example=example)
    ranked = {site.name: _by_l1_norm(site) for site in model.anatomy.sites}

    def masks(share: float) -> dict[str, Tensor]:
        return {name: _keep(order, share) for name, order in ranked.items()}

    def cost(share: float) -> float:
        chosen = {name: mask[None] for name, mask in masks(share).items()}
        return model.anatomy.plan.total(chosen).item()

    if cost(0.0) > macs:
        raise FtwtError(
            f"static_uniform: {macs:,.0f} MACs are fewer than one filter in each layer costs, "
            f"{cost(0.0):,.0f}; ask for more MACs"
        )
    return Fixed(masks(_largest(cost, macs, _STATIC_STEPS)))


def oracle_top_k(
    network: nn.Module, macs: float, loader: Loader, *, example: Tensor | tuple[Tensor, ...]
) -> TopK:
    """The top-k target whose oracle costs at most `macs` on average, and nearly that.

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

    return TopK(max(_largest(cost, macs, _TOP_K_STEPS), 1e-6))


def static_share(model: Gated) -> float:
    """Share of all filters of the sites that static masks keep."""
    masks = model.pruning.gate.masks if isinstance(model.pruning.gate, Fixed) else {}
    kept = [flag for rows in masks.values() for flag in rows[0]]
    return sum(kept) / len(kept) if kept else 1.0


def _largest(cost: Callable[[float], float], most: float, steps: int) -> float:
    """The largest share in [0, 1] whose cost is at most `most`; cost never falls with the share."""
    if cost(1.0) <= most:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= most else (low, middle)
    return low


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


def _keep(order: Tensor, share: float) -> Tensor:
    mask = torch.zeros(len(order), dtype=torch.bool)
    mask[order[: max(1, round(share * len(order)))].cpu()] = True
    return mask
