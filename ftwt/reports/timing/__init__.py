"""Milliseconds side by side: a network dense, masked, skipping, and cut to the same activity."""

from ftwt.reports.timing.bench import bench
from ftwt.reports.timing.calibration import randomize_gates, randomize_to_reduction

__all__ = ["bench", "randomize_gates", "randomize_to_reduction"]
