"""`cut`: from a gated network and one fixed mask for each site to a plain, smaller network."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, fx

from ftwt.errors import FtwtError
from ftwt.gated.known_masks import known_masks
from ftwt.gated.model import Gated
from ftwt.graph.live import Evaluator
from ftwt.graph.sites import shape_of
from ftwt.runtime.lowering import lower
from ftwt.runtime.numbering import numbered
from ftwt.slicing.emit import Emitted, emit


def cut(
    model: Gated,
    masks: Mapping[str, Bool[Tensor, "C"]] | None = None,
    *,
    fold: bool = True,
    round_to: int | None = 1,
) -> fx.GraphModule:
    """Return the plain network that computes what `model` does when its masks are always these.

    Gates are gone, and channels are numbered anew: each convolution keeps the filters that its mask
    keeps and something reads, and of their inputs those that are left. Tensors that meet in a sum
    hold the same channels, those that any of them needs; where a mask leaves one out, its filter
    has zeros for weights. So the operations are those of the whole network with batch norms folded.
    What no program has a step for runs on whole tensors. Weights are those of the moment; what a
    network computes them from, such as a weight norm, is computed once.

    Args:
        model: a gated network; its gates are not asked.
        masks: a mask (C_out,) for each site; those of the gates if None, where these are the same
            for every input, as those of `gates.Fixed`.
        fold: fold batch norms into the convolutions before them, for inference. Without, the
            network can be trained, and `attach` knows all its operations.
        round_to: keep more filters until their number is a multiple of this, such as 8, which
            engines like, or all of them. None keeps exactly what the masks keep, for exactly the
            MACs that `model.anatomy.plan` counts for them, gates aside: then operations of their
            own put channels back where sides of a sum differ, which takes longer.

    Raises:
        FtwtError: `round_to` is below 1, a mask is missing, of the wrong width, or goes by the
            input, or a convolution's input does not have the batch as its first dimension.

    Example:
        >>> import ftwt
        >>> model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(),
        ...                     example=torch.zeros(1, 3, 32, 32)).eval()
        >>> trace = model.trace(torch.randn(1, 3, 32, 32))
        >>> small = cut(model, {name: mask[0] for name, mask in trace.masks.items()})
        >>> small(torch.randn(5, 3, 32, 32)).shape
        torch.Size([5, 10])
    """
    found = _fixed_masks(model) if masks is None else masks
    return cut_with_order(model, found, fold=fold, round_to=round_to).network


def _fixed_masks(model: Gated) -> dict[str, Bool[Tensor, "C"]]:
    found = known_masks(model)
    if moving := [site for site in model.sites if site not in found]:
        raise FtwtError(
            f"cut: the masks of {len(moving)} of {len(model.sites)} sites go by the input, that of "
            f"{moving[0]!r} for one; give masks=, one (C_out,) for each site, or gate with "
            "gates.Fixed"
        )
    return found


def cut_with_order(
    model: Gated, masks: Mapping[str, Bool[Tensor, "C"]], *, fold: bool, round_to: int | None
) -> Emitted:
    """The network that `cut` returns, and what each convolution became."""
    rows = check_masks(model, masks)
    live = Evaluator(rows, next(iter(rows.values())))
    program = lower(model, model.anatomy, gates=False, fold=fold)
    return emit(model, program, numbered(program, live, round_to), fold=fold)


def check_masks(
    model: Gated, masks: Mapping[str, Bool[Tensor, "C"]]
) -> dict[str, Bool[Tensor, "1 C"]]:
    """The masks as those of one sample; FtwtError unless each site has one of its width."""
    rows = {}
    for site in model.anatomy.sites:
        width = shape_of(site, model.anatomy.traced).out_channels
        mask = masks.get(site.name)
        if mask is None:
            raise FtwtError(f"cut: no mask for site {site.name!r}; give one for each site")
        if mask.dtype != torch.bool or tuple(mask.shape) != (width,):
            raise FtwtError(
                f"cut: the mask for {site.name!r} is {mask.dtype} of shape {tuple(mask.shape)}; "
                f"give booleans of shape ({width},)"
            )
        rows[site.name] = mask[None]
    unknown = [name for name in masks if name not in rows]
    if unknown:
        raise FtwtError(f"cut: {unknown[0]!r} is no site; the sites are {', '.join(model.sites)}")
    return rows
