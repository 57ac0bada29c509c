"""Networks that are cut to masks, beside those that are masked."""

import ftwt
from ftwt import gates
from ftwt.slicing import cut
from tests.laws.networks import random_masks


def cut_and_masked(network, batch, seed, share, *, fold, where=lambda *_: True, round_to=None):
    """The cut network, the one with the same masks, and what the latter costs."""
    pruning = ftwt.Pruning(gates.Fixed({}))
    plain = ftwt.attach(network, pruning, example=batch[:1], where=where, check=False)
    masks = {name: mask[0] for name, mask in random_masks(plain, 1, seed, share).items()}
    masked = ftwt.attach(
        network, ftwt.Pruning(gates.Fixed(masks)), example=batch[:1], where=where
    ).eval()
    small = cut(masked, masks, fold=fold, round_to=round_to)
    macs = masked.anatomy.plan.total({name: mask[None] for name, mask in masks.items()})
    return small, masked, macs
