"""Running only what the masks keep.

Imports graph to io. A program of steps is made once, and back ends run it.
"""

from ftwt.runtime.audit import Audit
from ftwt.runtime.backends import Backend, register
from ftwt.runtime.entry import skip
from ftwt.runtime.escalating import EscalationAudit, SkippingEscalation
from ftwt.runtime.placement import Placed, Placement
from ftwt.runtime.skipping import Skipping, explain

__all__ = [
    "Audit",
    "Backend",
    "EscalationAudit",
    "Placed",
    "Placement",
    "Skipping",
    "SkippingEscalation",
    "explain",
    "register",
    "skip",
]
