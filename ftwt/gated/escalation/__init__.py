"""A budget for each image: answer at a low setting, and again at a higher one where it is unsure.

Signals say how sure an answer is; a policy says when that is too little. Imports what stands above
`gated`, and what lies beside it.
"""

from ftwt.gated.escalation.escalate import escalate
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.escalation.policy import Policy
from ftwt.gated.escalation.settings import every_filter, with_gate
from ftwt.gated.escalation.signals import (
    Confidence,
    Entropy,
    Margin,
    Signal,
    Temperature,
    likeliest_temperature,
)
from ftwt.gated.escalation.trace import EscalationTrace, SettingPass

__all__ = [
    "Confidence",
    "Entropy",
    "Escalating",
    "EscalationTrace",
    "Margin",
    "Policy",
    "SettingPass",
    "Signal",
    "Temperature",
    "escalate",
    "every_filter",
    "likeliest_temperature",
    "with_gate",
]
