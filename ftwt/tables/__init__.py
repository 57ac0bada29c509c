"""Tables: rows of values, and how they read on a terminal, on a page, in Markdown and as CSV.

It imports nothing of ftwt but errors.
"""

from ftwt.tables.forms import MINUS, count, fixed, is_share, metric, percent, points, signed
from ftwt.tables.table import NOTHING, Column, Table, of_text

__all__ = [
    "MINUS",
    "NOTHING",
    "Column",
    "Table",
    "count",
    "fixed",
    "is_share",
    "metric",
    "of_text",
    "percent",
    "points",
    "signed",
]
