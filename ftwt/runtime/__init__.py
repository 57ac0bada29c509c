"""Running only what the masks keep.

Imports graph to io. A program of steps is made once, and back ends run it.
"""

from ftwt.runtime.audit import Audit
from ftwt.runtime.explain import Explanation
from ftwt.runtime.placement import Plan
from ftwt.runtime.skipping import Skipping, explain, skip

__all__ = ["Audit", "Explanation", "Plan", "Skipping", "explain", "skip"]
