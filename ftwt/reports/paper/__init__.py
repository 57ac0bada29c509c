"""Every table and figure of the paper and its supplement, each from real runs, one command each.

    study = Study(folder, dataset, scale("smoke", "shapes"))
    make(study, items("all"))             # trains what is missing, measures, writes, makes the page

A table or figure is one file here that ends in an `Item`, and one line in `ftwt.paper.items`.
"""

from ftwt.reports.paper.claim import claim
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.items import ITEMS, items
from ftwt.reports.paper.make import make
from ftwt.reports.paper.runs import RecordedRun, read_runs
from ftwt.reports.paper.scales import SCALES, Family, Scale, scale
from ftwt.reports.paper.study import Study, Training
from ftwt.reports.paper.write import write_page

__all__ = [
    "ITEMS",
    "SCALES",
    "Drawing",
    "Family",
    "Item",
    "RecordedRun",
    "Scale",
    "Study",
    "Training",
    "claim",
    "items",
    "make",
    "read_runs",
    "scale",
    "write_page",
]
