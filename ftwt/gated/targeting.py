"""Targets that take a pass of their own: without masks, or with the gradient of the task's loss."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ftwt.gated.passes import MaskOf, SiteHook
from ftwt.targets.interface import GradientTarget, Rule, mask_by, without_gradient


def dense_targets(
    run: Callable[[MaskOf], object], rules: Mapping[str, Rule]
) -> dict[str, Bool[Tensor, "B C"]]:
    """Targets by site, from the features of a pass without masks, which `run` runs."""
    found: dict[str, Tensor] = {}

    def keep(site: str, features: Tensor) -> None:
        rule = without_gradient(rules[site], "trace")
        found[site] = mask_by(rule, rule.keep(features), features)

    with torch.no_grad():
        run(keep)
    return found


def gradient_targets(
    loss: Callable[[SiteHook], Tensor], rules: Mapping[str, Rule]
) -> dict[str, Bool[Tensor, "B C"]]:
    """Targets by site; `loss` runs a pass that shows each site to a hook, and tells its loss."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(site: str, features: Tensor, after: Tensor) -> Tensor:
        # Where everything before is frozen the graph begins here. A copy goes on, as the network
        # may work in place.
        seen[site] = features.detach(), after.requires_grad_()
        return after.clone()

    with torch.enable_grad():
        value = loss(note)
        outputs = [after for _, after in seen.values()]
        # A site that the loss does not depend on has no gradient.
        gradients = torch.autograd.grad(value, outputs, materialize_grads=True)
    found: dict[str, Tensor] = {}
    for (site, (features, _)), gradient in zip(seen.items(), gradients, strict=True):
        rule = rules[site]
        kept = (
            rule.keep_by_gradient(features, gradient)
            if isinstance(rule, GradientTarget)
            else rule.keep(features)
        )
        found[site] = mask_by(rule, kept, features)
    return found


def all_filters_shown(hook: SiteHook) -> MaskOf:
    """Masks that run all filters, and show each site to a hook before."""

    def mask_of(site: str, features: Tensor) -> Tensor:
        hook(site, features, features)
        return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)

    return mask_of


@contextmanager
def leaving_no_trace(network: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """What runs here leaves batch norms, random numbers and autocast as they were."""
    devices = {one.device for one in inputs if one.is_cuda}
    with _borrowed_batch_norms(network), torch.random.fork_rng(list(devices)):
        yield
    # Weights that autocast converted without gradient must not serve the pass that trains.
    torch.clear_autocast_cache()


@contextmanager
def _borrowed_batch_norms(model: nn.Module) -> Iterator[None]:
    """Batch norms in training mode use a batch's statistics and keep nothing of them."""
    norms = [
        one
        for one in model.modules()
        if isinstance(one, nn.modules.batchnorm._BatchNorm)
        and one.training
        and one.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
