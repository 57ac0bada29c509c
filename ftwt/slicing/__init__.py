"""Networks cut down for good: a gated network with fixed masks, as a smaller plain network."""

from ftwt.slicing.cut import cut

__all__ = ["cut"]
