"""Losses read a trace; they add up to one objective that reports each part.

Imports errors and graph: what a loss reads of a pass is a protocol of its own.
"""

from ftwt.losses.cross_entropy import CrossEntropy
from ftwt.losses.distillation import Distillation, with_teacher
from ftwt.losses.gate_bce import GateBCE
from ftwt.losses.interface import Loss, Objective, Report, of
from ftwt.losses.mac_budget import MacBudget
from ftwt.losses.mean_squared_error import MeanSquaredError
from ftwt.losses.model_losses import ModelLosses
from ftwt.losses.pixel_cross_entropy import PixelCrossEntropy

__all__ = [
    "CrossEntropy",
    "Distillation",
    "GateBCE",
    "Loss",
    "MacBudget",
    "MeanSquaredError",
    "ModelLosses",
    "Objective",
    "PixelCrossEntropy",
    "Report",
    "of",
    "with_teacher",
]
