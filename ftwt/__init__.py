"""Convolutional networks that choose, for each input, which filters to run."""

from ftwt import (
    analysis,
    backbones,
    budget,
    data,
    gates,
    losses,
    macs,
    networks,
    runtime,
    slicing,
    targets,
    training,
)
from ftwt.analysis import slim
from ftwt.attach import attach
from ftwt.budget import calibrate, estimate, solve
from ftwt.errors import FtwtError
from ftwt.model import Gated
from ftwt.pipeline import Pipeline, Result
from ftwt.pruning import Pruning
from ftwt.storage import Card, load, save
from ftwt.trace import SiteTrace, Trace

__version__ = "0.1.0"

__all__ = [
    "Card",
    "FtwtError",
    "Gated",
    "Pipeline",
    "Pruning",
    "Result",
    "SiteTrace",
    "Trace",
    "analysis",
    "attach",
    "backbones",
    "budget",
    "calibrate",
    "data",
    "estimate",
    "gates",
    "load",
    "losses",
    "macs",
    "networks",
    "runtime",
    "save",
    "slicing",
    "slim",
    "solve",
    "targets",
    "training",
]
