"""Milliseconds side by side: a network dense, masked, skipping, and cut to the same activity."""

from ftwt.timing.bench import bench
from ftwt.timing.calibration import calibrate, to_reduction

__all__ = ["bench", "calibrate", "to_reduction"]
