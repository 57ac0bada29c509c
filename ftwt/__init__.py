"""Convolutional networks that choose, for each input, which filters to run."""

from ftwt import backbones, gates, losses, macs, networks, targets, training
from ftwt.attach import attach
from ftwt.errors import FtwtError
from ftwt.model import Gated, Pruning
from ftwt.trace import SiteTrace, Trace

__version__ = "0.1.0"

__all__ = [
    "FtwtError",
    "Gated",
    "Pruning",
    "SiteTrace",
    "Trace",
    "attach",
    "backbones",
    "gates",
    "losses",
    "macs",
    "networks",
    "targets",
    "training",
]
