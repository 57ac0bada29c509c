"""What masks are compared with: those of other images, and the same for all images."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.losses.classification import which_right
from ftwt.training.evaluation import evaluating
from ftwt.training.inspection import Loader, first

# Images of about one cost among which masks change places: enough for several classes to be there.
_BLOCK = 50


@dataclass(frozen=True, eq=False)
class Observed:
    """What a gated network did for N images: masks, exact MACs, right answers, by image."""

    masks: Mapping[str, Bool[Tensor, "N C"]]
    macs: Float[Tensor, "N"]
    right: Bool[Tensor, "N"]
    # Of each image's pixels, to know it by when it comes again.
    prints: Float[Tensor, "N"]


def with_own_masks(model: Gated, loader: Loader, limit: int | None, called: str) -> Observed:
    """Run the network with its own masks."""
    device = next(model.parameters()).device
    parts: dict[str, list[Tensor]] = {}
    macs, right, prints = [], [], []
    with evaluating(model):
        for images, labels in first(loader, limit, called):
            trace = model.trace(images.to(device), targets=False)
            for name, mask in trace.masks.items():
                parts.setdefault(name, []).append(mask.cpu())
            macs.append(trace.macs.double().cpu())
            right.append(which_right(trace.output, labels).cpu())
            prints.append(_print(images))
    masks = {name: torch.cat(found) for name, found in parts.items()}
    return Observed(masks, torch.cat(macs), torch.cat(right), torch.cat(prints))


def right_with(
    model: Gated,
    loader: Loader,
    limit: int | None,
    seen: Observed,
    masks: Mapping[str, Bool[Tensor, "N C"]],
    called: str,
) -> Bool[Tensor, "N"]:
    """Which images are answered rightly under masks given for each.

    Raises:
        FtwtError: the loader does not give the images that were seen before, in that order.
    """
    device = next(model.parameters()).device
    right: list[Tensor] = []
    done = 0
    with evaluating(model):
        for images, labels in first(loader, limit, called):
            places = slice(done, done + len(images))
            if not torch.equal(_print(images), seen.prints[places]):
                raise FtwtError(
                    f"{called}: the loader gives other images when it is read again, or in another "
                    "order; give one without augmentation and with shuffle=False"
                )
            now = {name: mask[places].to(device) for name, mask in masks.items()}

            def decide(site: str, features: Tensor, now: Mapping[str, Tensor] = now) -> Tensor:
                return now[site]

            right.append(
                which_right(model.forward_with_masks(decide, images.to(device)), labels).cpu()
            )
            done += len(images)
    return torch.cat(right)


def shuffle(count: int, generator: torch.Generator) -> Int[Tensor, "N"]:
    """For each of `count` images another one; each is another's exactly once."""
    order = torch.randperm(count, generator=generator)
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other


def shuffle_at_cost(macs: Float[Tensor, "N"], generator: torch.Generator) -> Int[Tensor, "N"]:
    """For each image another one of about its own MACs; each is another's exactly once."""
    # A random order first, so that images of equal cost do not stay in the loader's.
    order = torch.randperm(len(macs), generator=generator)
    order = order[macs[order].argsort(stable=True)]
    other = torch.empty_like(order)
    for block in order.tensor_split(max(1, len(order) // _BLOCK)):
        other[block] = block[shuffle(len(block), generator)]
    return other


def projection(model: Gated, seen: Observed) -> tuple[dict[str, Bool[Tensor, "C"]], float]:
    """The same masks for all images at no more than the mean MACs, and what they cost.

    A filter runs if it ran for more than some share of the images: half of them, or what else it
    takes to come up to the mean. Masks that never change need no gates, so these are not paid for.
    """
    shares = torch.cat([mask.double().mean(0) for mask in seen.masks.values()])
    order = shares.argsort(descending=True, stable=True)
    widths = [mask.shape[1] for mask in seen.masks.values()]

    def masks(count: int) -> dict[str, Tensor]:
        chosen = torch.zeros(len(shares), dtype=torch.bool)
        chosen[order[:count]] = True
        return dict(zip(seen.masks, torch.split(chosen, widths), strict=True))

    def cost(count: int) -> float:
        rows = {name: mask[None] for name, mask in masks(count).items()}
        return float(sum(int(one) for one in model.anatomy.plan.exact(rows).values()))

    budget = seen.macs.mean().item()
    low, high = 0, len(shares)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle - 1)
    return masks(low), cost(low)


def _print(images: Tensor) -> Float[Tensor, "B"]:
    return images.cpu().double().flatten(1).sum(1)
