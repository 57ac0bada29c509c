"""Measuring what gated networks do, drawing it, and one HTML page that shows it.

    seen = activity(model, loader)
    curve = oracle_curve(network, loader, (0.8, 0.9, 0.95), example=example)
    tradeoff(curve, trained={"trained gates": seen}).savefig("tradeoff.png")

Measurements need nothing but torch; plots need `pip install ftwt[plots]`.
"""

from ftwt.reports import drawing, page
from ftwt.reports.analysis.core import LayerFilters, core_filters
from ftwt.reports.analysis.cost_plot import cost_histogram
from ftwt.reports.analysis.curve import Curve, CurveRow, HasReductions, oracle_curve
from ftwt.reports.analysis.diagnosed import diagnose_run
from ftwt.reports.analysis.diagnosis import Control, Dynamism
from ftwt.reports.analysis.dynamism import dynamism
from ftwt.reports.analysis.equal_cost import oracle_top_k, static_uniform
from ftwt.reports.analysis.heatmap_plot import heatmap_grid
from ftwt.reports.analysis.heatmaps import Heatmaps, heatmaps
from ftwt.reports.analysis.layer_plots import activity_by_layer, macs_by_layer
from ftwt.reports.analysis.outcomes import Outcomes, outcomes
from ftwt.reports.analysis.removal import Agreement, Removal, Slim, agreement, slim, without_never
from ftwt.reports.analysis.report import Findings, write_report
from ftwt.reports.analysis.shifts import SHIFTS, Shift, shifted
from ftwt.reports.analysis.similarity import Similarity, heatmap_similarity
from ftwt.reports.analysis.tradeoff_plot import tradeoff
from ftwt.training.activity import Activity, LayerCost, SiteActivity, activity
from ftwt.training.tested import evaluate_run

__all__ = [
    "SHIFTS",
    "Activity",
    "Agreement",
    "Control",
    "Curve",
    "CurveRow",
    "Dynamism",
    "Findings",
    "HasReductions",
    "Heatmaps",
    "LayerCost",
    "LayerFilters",
    "Outcomes",
    "Removal",
    "Shift",
    "Similarity",
    "SiteActivity",
    "Slim",
    "activity",
    "activity_by_layer",
    "agreement",
    "core_filters",
    "cost_histogram",
    "diagnose_run",
    "drawing",
    "dynamism",
    "evaluate_run",
    "heatmap_grid",
    "heatmap_similarity",
    "heatmaps",
    "macs_by_layer",
    "oracle_curve",
    "oracle_top_k",
    "outcomes",
    "page",
    "shifted",
    "slim",
    "static_uniform",
    "tradeoff",
    "without_never",
    "write_report",
]
