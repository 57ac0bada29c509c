"""Knowing the cost before training, hitting a budget, several budgets in one model.

Imports graph to training.
"""

from ftwt.budget.calibrate import calibrate
from ftwt.budget.curve import reduction_curve
from ftwt.budget.escalated import train_escalated, train_escalated_run
from ftwt.budget.escalation import with_temperatures
from ftwt.budget.estimate import Applied, Estimate, EstimateRow, estimate
from ftwt.budget.families import check_distinct
from ftwt.budget.solve import Solution, solve
from ftwt.budget.train import train_to, waits_for_calibration
from ftwt.budget.widen import widen

__all__ = [
    "Applied",
    "Estimate",
    "EstimateRow",
    "Solution",
    "calibrate",
    "check_distinct",
    "estimate",
    "reduction_curve",
    "solve",
    "train_escalated",
    "train_escalated_run",
    "train_to",
    "waits_for_calibration",
    "widen",
    "with_temperatures",
]
