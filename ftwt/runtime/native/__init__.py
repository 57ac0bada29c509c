"""The native CPU back end: segments of a program, each run by one call of compiled C.

The library is an optional part of an installation: without it `available()` is False, and
`supports` takes no step.
"""

from ftwt.runtime.native.binding import available, force, instruction_set, missing, peak
from ftwt.runtime.native.segment import Segment
from ftwt.runtime.native.support import supports

__all__ = ["Segment", "available", "force", "instruction_set", "missing", "peak", "supports"]
