"""Target rules: which filters of a site should have run, told from the site's output.

Imports errors and graph; gates and losses are unknown to it.
"""

from ftwt.targets.active import Active
from ftwt.targets.heatmap_mass import HeatmapMass
from ftwt.targets.interface import Ranking, RankingTarget, Score, Target, channel_scores
from ftwt.targets.per_site import PerSite
from ftwt.targets.top_k import TopK

__all__ = [
    "Active",
    "HeatmapMass",
    "PerSite",
    "Ranking",
    "RankingTarget",
    "Score",
    "Target",
    "TopK",
    "channel_scores",
]
