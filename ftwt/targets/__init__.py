"""Target rules: which filters of a site should have run, told from the site's output."""

from ftwt.targets.active import Active
from ftwt.targets.heatmap_mass import HeatmapMass
from ftwt.targets.interface import Score, Target, channel_scores
from ftwt.targets.top_k import TopK

__all__ = ["Active", "HeatmapMass", "Score", "Target", "TopK", "channel_scores"]
