"""Networks for other programs: files that run without this library, each in its format.

Imports graph to slicing. A format is one function that writes and checks; `formats` lists them.
"""

from ftwt.export.exported import Exported
from ftwt.export.formats import export

__all__ = ["Exported", "export"]
