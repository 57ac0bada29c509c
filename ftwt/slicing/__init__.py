"""Networks cut down for good: plain ones for fixed masks, or gated ones without some filters.

Imports graph to runtime.
"""

from ftwt.slicing.cut import cut
from ftwt.slicing.narrow import narrow, renarrow

__all__ = ["cut", "narrow", "renarrow"]
