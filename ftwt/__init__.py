"""Convolutional networks that choose, for each input, which filters to run."""

from ftwt import (
    backbones,
    budget,
    data,
    gates,
    losses,
    macs,
    runtime,
    slicing,
    targets,
    training,
)
from ftwt.backbones import networks
from ftwt.budget import calibrate, estimate, solve
from ftwt.errors import FtwtError
from ftwt.export import Exported, export
from ftwt.gated import Gated, Pruning, SiteTrace, Trace, attach, escalation
from ftwt.gated.escalation import Escalating, EscalationTrace, escalate
from ftwt.io import Card, load, register, save
from ftwt.reports import analysis
from ftwt.reports.analysis import slim
from ftwt.training.pipeline import Pipeline, Result

__version__ = "0.2.0"

__all__ = [
    "Card",
    "Escalating",
    "EscalationTrace",
    "Exported",
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
    "escalate",
    "escalation",
    "estimate",
    "export",
    "gates",
    "load",
    "losses",
    "macs",
    "networks",
    "register",
    "runtime",
    "save",
    "slicing",
    "slim",
    "solve",
    "targets",
    "training",
]


def __dir__() -> list[str]:
    """The public names alone; packages that they come from stay importable."""
    return sorted({*__all__, "__version__"})
