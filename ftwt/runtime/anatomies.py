"""A gated network's anatomy for inputs of another size than it was attached with."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ftwt.errors import FtwtError
from ftwt.gated.anatomy import Anatomy
from ftwt.gated.model import Gated
from ftwt.graph.liveness import Liveness
from ftwt.graph.tracing import probed
from ftwt.macs import plan


def anatomy_for(model: Gated, inputs: Sequence[Tensor]) -> Anatomy:
    """What `attach` would have found out with these inputs as its example.

    Raises:
        FtwtError: the network does not take inputs of this size.
    """
    own = model.anatomy
    shapes = tuple(tuple(one.shape[1:]) for one in inputs)
    if shapes == own.expected:
        return own
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            traced = probed(own.traced, model, inputs, counter)
        except Exception as error:
            given, expected = (", ".join(map(str, one)) for one in (shapes, own.expected))
            raise FtwtError(
                f"skip: the network does not run on samples of shape {given}; it was attached "
                f"with {expected}, give that"
            ) from error
    liveness = Liveness(traced, {site.output.name: site.name for site in own.sites})
    costs = plan(traced, list(own.sites), liveness, model.pruning.gate)
    return replace(own, traced=traced, liveness=liveness, plan=costs, expected=shapes)
