"""Settings of small networks."""

import torch

import ftwt
from ftwt import gates

EXAMPLE = torch.zeros(1, 3, 32, 32)


def static(network, share):
    """A network with that share of each site's filters, the first ones."""
    whole = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    masks = {
        gate.site.name: torch.arange(gate.site.out_channels) < share * gate.site.out_channels
        for gate in whole.gates.values()
    }
    return ftwt.attach(network, ftwt.Pruning(gates.Fixed(masks)), example=EXAMPLE)


def looking(network):
    return ftwt.attach(network, ftwt.Pruning(), example=EXAMPLE).eval()
