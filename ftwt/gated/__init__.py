"""The gated network: how a network is gated, the gates in their places, and what a pass showed.

Imports graph, gates, targets, losses and macs.
"""

from ftwt.gated.attach import attach
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gated.trace import SiteTrace, Trace

__all__ = ["Gated", "Pruning", "SiteTrace", "Trace", "attach"]
