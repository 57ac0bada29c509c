"""Networks whose masks are known before any image is seen, cut to these masks."""

import torch

from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.escalation.settings import cost_of, fixed_masks
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates.untrained import Fixed
from ftwt.runtime.escalating import cut_by
from ftwt.slicing.cut import cut


def cut_fixed(model: Gated) -> Gated | None:
    """The smaller network that answers what `model` does, if its masks are known beforehand.

    It runs all that is left of it; its one site is there because the runtime takes gated networks.
    None where a gate looks at the image, where a layer cannot be cut, or where the network that is
    left would run more than the masks ask for.
    """
    masks = fixed_masks(model)
    if masks is None:
        return None
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    example = tuple(torch.zeros(1, *shape, device=device) for shape in model.anatomy.expected)
    try:
        small = cut(model, masks, fold=False, round_to=None)
        whole = attach(small, Pruning(gate=Fixed({})), example=example, where=_any)
        lone = attach(small, Pruning(gate=Fixed({})), example=example, where=[whole.sites[-1]])
    except FtwtError:
        return None
    return lone if lone.dense_macs == cost_of(model, masks) else None


def _any(name: str, module: object) -> bool:
    return True


cut_by(cut_fixed)
