"""Running only what the masks keep."""

from ftwt.runtime.audit import Audit
from ftwt.runtime.explain import Explanation
from ftwt.runtime.placement import Plan
from ftwt.runtime.skipping import Skipping, explain, skip

__all__ = ["Audit", "Explanation", "Plan", "Skipping", "explain", "skip"]
