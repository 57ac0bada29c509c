"""Untrained gates that keep a given share of the filters, and cost what trained ones do."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ftwt.errors import FtwtError, check_within
from ftwt.gated.model import Gated
from ftwt.gated.site_gate import SiteGate
from ftwt.gates.forms import AffineForm, form_of
from ftwt.graph import operations

# A reduction is met when it is this near; trying further would fit the images.
_NEAR = 0.003
_TRIALS = 6


def randomize_gates(model: Gated, images: Float[Tensor, "B C H W"], fraction: float) -> None:
    """Set gates and batch norms of an untrained network in place, so that masks look trained.

    The gates' weights stay random; their biases become such that each filter runs for a share
    `fraction` of the images, others for each image. Batch norms take their statistics from the
    same images, so that a deep network of random weights neither dies out nor overflows.

    Args:
        model: gates tell an affine form, end in a linear layer with a bias, or follow their input.
        images: a few dozen; masks of other images like these keep about the same share.
        fraction: share of the filters to keep, in (0, 1].
    """
    mend = "give the share of filters that run for an image, for example 0.5"
    check_within("calibrate", "fraction", fraction, "(0, 1]", mend)
    norms = [one for one in model.modules() if isinstance(one, operations.BATCH_NORMS)]
    hooks = [one.register_forward_pre_hook(_take_statistics) for one in norms]
    gates = [one for one in model.site_gates if not one.follows]
    hooks += [one.register_forward_pre_hook(_keep(one, fraction)) for one in gates]
    try:
        with torch.no_grad():
            model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()


def randomize_to_reduction(
    model: Gated, images: Float[Tensor, "B C H W"], reduction: float
) -> float:
    """Calibrate to a mean exact MAC reduction, gates counted; returns the fraction that gives it.

    Gates are set on the first half of the images, the reduction is that of the second half.

    Raises:
        FtwtError: no fraction does: the gates alone may cost more than that.
    """
    mend = "give the share of MACs to save, gates counted, for example 0.5"
    check_within("bench", "reduction", reduction, "[0, 1)", mend)
    half = len(images) // 2
    # MACs go with the square of the fraction, so their root goes about straight.
    wanted = (1 - reduction) ** 0.5
    low, high = (0.0, 0.0), (1.0, 1.0)
    best, nearest = 1.0, float("inf")
    for _ in range(_TRIALS):
        share = (wanted - low[1]) / (high[1] - low[1])
        fraction = low[0] + (high[0] - low[0]) * min(max(share, 0.05), 0.95)
        randomize_gates(model, images[:half], fraction)
        found = measured_reduction(model, images[half:])
        if abs(found - reduction) < nearest:
            best, nearest = fraction, abs(found - reduction)
        if nearest < _NEAR:
            break
        point = fraction, max(0.0, 1 - found) ** 0.5
        low, high = (point, high) if found > reduction else (low, point)
    if nearest > 0.02:
        raise FtwtError(
            f"bench: a reduction of {reduction:.0%} is out of reach; at fraction {best:.2f} it is "
            f"off by {nearest:.0%}, as gates and layers without a gate cost too; ask for less"
        )
    randomize_gates(model, images[:half], best)
    return best


def measured_reduction(model: Gated, images: Float[Tensor, "B C H W"]) -> float:
    """Mean exact MAC reduction over images, gates counted."""
    with torch.no_grad():
        macs = model.trace(images, targets=False).macs
    return 1 - macs.double().mean().item() / model.dense_macs


def _take_statistics(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
    """A batch norm's pre-hook: the statistics of what comes."""
    mean, variance = norm.running_mean, norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return
    features = inputs[0].transpose(0, 1).flatten(1)
    mean.copy_(features.mean(1))
    # A channel without variance would be divided by nothing.
    variance.copy_(features.var(1, unbiased=False).clamp(min=1e-3))


def _keep(site: SiteGate, fraction: float) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        bias = _bias(site)
        bias.zero_()
        if fraction == 1:
            bias.fill_(1e4)
            return
        logits = site.gate(inputs[0])
        bias.copy_(-logits.double().quantile(1 - fraction, dim=0))

    return hook


def _bias(site: SiteGate) -> Tensor:
    """The bias of a gate's logits."""
    form = form_of(site.gate)
    # A bias that batch norm is folded into is a copy.
    if isinstance(form, AffineForm) and any(form.bias is one for one in site.gate.parameters()):
        return form.bias
    linears = [one for one in site.gate.modules() if isinstance(one, nn.Linear)]
    if not linears or linears[-1].bias is None:
        raise FtwtError(
            f"calibrate: {type(site.pruning.gate).__name__} has no linear layer with a bias; "
            "attach with gates.PooledLinear()"
        )
    return linears[-1].bias
