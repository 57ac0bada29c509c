"""Running only what the masks keep."""

from ftwt.runtime.audit import Audit
from ftwt.runtime.skipping import Skipping, skip

__all__ = ["Audit", "Skipping", "skip"]
