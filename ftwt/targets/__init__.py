"""Target rules: which filters of a site should have run, told from the site's output.

Imports errors and graph; gates and losses are unknown to it.
"""

from ftwt.targets.active import Active
from ftwt.targets.heatmap_mass import HeatmapMass
from ftwt.targets.interface import (
    Adjustable,
    GradientTarget,
    Ranking,
    RankingTarget,
    Rule,
    Score,
    SiteTarget,
    Target,
    channel_scores,
    rule_of,
    without_gradient,
)
from ftwt.targets.per_site import PerSite
from ftwt.targets.top_k import TopK

__all__ = [
    "Active",
    "Adjustable",
    "GradientTarget",
    "HeatmapMass",
    "PerSite",
    "Ranking",
    "RankingTarget",
    "Rule",
    "Score",
    "SiteTarget",
    "Target",
    "TopK",
    "channel_scores",
    "rule_of",
    "without_gradient",
]
