"""Gates predict from a site's input which of its filters to run; estimators threshold them.

Imports errors and graph; targets and losses are unknown to it.
"""

from ftwt.gates.bottleneck import Bottleneck
from ftwt.gates.by_cost import ByCost
from ftwt.gates.estimators import Gumbel, Hard, StraightThrough
from ftwt.gates.follow import Follow
from ftwt.gates.forms import AffineForm, TableForm
from ftwt.gates.interface import Estimator, Gate
from ftwt.gates.narrowed import Narrowed
from ftwt.gates.pooled_linear import PooledLinear
from ftwt.gates.untrained import Fixed, Oracle, Random
from ftwt.graph.sites import SiteShape

__all__ = [
    "AffineForm",
    "Bottleneck",
    "ByCost",
    "Estimator",
    "Fixed",
    "Follow",
    "Gate",
    "Gumbel",
    "Hard",
    "Narrowed",
    "Oracle",
    "PooledLinear",
    "Random",
    "SiteShape",
    "StraightThrough",
    "TableForm",
]
