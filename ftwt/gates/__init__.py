"""Gates predict from a site's input which of its filters to run; estimators threshold them."""

from ftwt.gates.bottleneck import Bottleneck
from ftwt.gates.by_cost import ByCost
from ftwt.gates.estimators import Gumbel, Hard, StraightThrough
from ftwt.gates.interface import Estimator, Gate, SiteShape
from ftwt.gates.narrowed import Narrowed
from ftwt.gates.pooled_linear import PooledLinear
from ftwt.gates.untrained import Fixed, Oracle, Random

__all__ = [
    "Bottleneck",
    "ByCost",
    "Estimator",
    "Fixed",
    "Gate",
    "Gumbel",
    "Hard",
    "Narrowed",
    "Oracle",
    "PooledLinear",
    "Random",
    "SiteShape",
    "StraightThrough",
]
