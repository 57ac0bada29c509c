"""Knowing the cost before training, hitting a budget, several budgets in one model."""

from ftwt.budget.calibrate import calibrate
from ftwt.budget.estimate import Applied, Estimate, EstimateRow, LayerEstimate, estimate
from ftwt.budget.solve import Solution, solve

__all__ = [
    "Applied",
    "Estimate",
    "EstimateRow",
    "LayerEstimate",
    "Solution",
    "calibrate",
    "estimate",
    "solve",
]
