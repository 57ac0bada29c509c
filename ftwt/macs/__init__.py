"""Counting multiply-accumulates (MACs), per sample, in two conventions.

`exact` counts what really has to run: for each convolution and linear layer, active outputs times
live inputs, group by group; gates included; layers without a gate on both sides of a comparison.

`paper` counts as the code published with FTWT does (arXiv 2110.08232): inputs are the mask of the
site before, divided by the groups and rounded down, so that a depthwise convolution with one dead
channel counts nothing; gates and layers without a gate are left out of the dynamic sum.

Bias, batch norm, activations and pooling count in neither.

Imports errors, graph and what a gate is.
"""

from ftwt.macs.grid import GridCounts, count_grid
from ftwt.macs.layers import dense_macs, plan
from ftwt.macs.plan import Layer, Plan
from ftwt.macs.table import LayerRow, table

__all__ = [
    "GridCounts",
    "Layer",
    "LayerRow",
    "Plan",
    "count_grid",
    "dense_macs",
    "plan",
    "table",
]
