"""What is made of a gated network answers as the network with masks: `difference` for each way.

The network's gates decide the same for every image, as what is cut must. Skipping goes by the
image, so it has other masks for each.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

import ftwt
from ftwt import escalation, gates, runtime
from ftwt.slicing import cut
from tests.laws.networks import torch_macs

# Of a difference, relative to the largest output.
TOLERANCE = 1e-4


def gated(
    network: nn.Module, images: Float[Tensor, "B C H W"], kept: float
) -> tuple[ftwt.Gated, dict[str, Bool[Tensor, " C_out"]]]:
    """The network with gates that decide the same for every image, and their masks.

    Each site keeps its first filter and a share `kept` of the others, at random.
    """
    model = ftwt.attach(network, ftwt.Pruning(gates.PooledLinear()), example=images[:1]).eval()
    masks = {}
    for one in model.site_gates:
        mask = torch.rand(one.site.out_channels) < kept
        mask[0] = True
        masks[one.site.name] = mask
        with torch.no_grad():
            one.gate.linear.bias.copy_(torch.where(mask, 1e4, -1e4))
    return model, masks


def skipped(model: ftwt.Gated, masks: dict[str, Tensor], images: Tensor) -> float:
    """With other masks for each image, on each back end; what ran is what is counted."""
    random = escalation.with_gate(model, gates.Random(_share(masks)))
    trace, found = _trace(random, images), []
    for backend in ("dense", "torch", "native"):
        fast = runtime.skip(random, backend=backend)
        found.append(_gap(fast(images), trace.output))
        audit = fast.audit(images)
        assert set(audit.differing) <= set(audit.dense)
        assert backend == "dense" or not audit.dense
        assert backend == "dense" or torch.equal(audit.macs, trace.macs)
    return max(found)


def cut_down(model: ftwt.Gated, masks: dict[str, Tensor], images: Tensor) -> float:
    """Batch norms folded or not, channels renumbered or for exactly the MACs that are counted."""
    wanted, found = _trace(model, images).output, []
    rows = {name: mask[None] for name, mask in masks.items()}
    macs = sum(int(layer) for layer in model.anatomy.plan.exact(rows).values())
    for fold in (True, False):
        found.append(_gap(cut(model, masks, fold=fold)(images), wanted))
        small = cut(model, masks, fold=fold, round_to=None)
        found.append(_gap(small(images), wanted))
        assert torch_macs(small, images) == macs
    return max(found)


def slimmed(model: ftwt.Gated, masks: dict[str, Tensor], images: Tensor) -> float:
    """By `ftwt.slim` over the images, which narrows: by its own measure, plain and skipping."""
    loader = [(images, torch.zeros(len(images), dtype=torch.long))]
    wanted, slim = _trace(model, images).output, ftwt.slim(model, loader)
    small = slim.model
    assert small.sites == model.sites
    assert small.dense_macs < model.dense_macs
    return max(
        slim.agreement.largest_difference,
        _gap(small(images), wanted),
        _gap(runtime.skip(small)(images), wanted),
    )


WAYS: dict[str, Callable[[ftwt.Gated, dict[str, Tensor], Tensor], float]] = {
    "skip": skipped,
    "cut": cut_down,
    "slim": slimmed,
}


def difference(
    way: str, model: ftwt.Gated, masks: dict[str, Tensor], images: Tensor
) -> float | str:
    """How far the way's answers are from the masked network's, or why it was refused.

    A share of the largest output; AssertionError where it is more than rounding.
    """
    with torch.no_grad():
        try:
            found = WAYS[way](model, masks, images)
        except ftwt.FtwtError as error:
            return str(error)
    assert found <= TOLERANCE, f"{way}: differs by {found:.3g} of the largest output"
    return found


def _trace(model: ftwt.Gated, images: Tensor) -> ftwt.Trace:
    return model.trace(images, targets=False)


def _share(masks: dict[str, Tensor]) -> float:
    """Of the filters that masks keep."""
    return float(torch.cat(list(masks.values())).float().mean())


def _gap(got: Tensor, wanted: Tensor) -> float:
    assert got.isfinite().all()
    return float((got - wanted).abs().max() / wanted.abs().max())
