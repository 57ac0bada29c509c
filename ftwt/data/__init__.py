"""Data sets, splits and batches.

    shapes = load("shapes")
    train, validation = holdout(shapes.train)
    loader = Batches(train, 128, mean=shapes.mean, std=shapes.std, augment=Augment(), shuffle=True)

A split that fits into memory is kept there as one uint8 tensor (`Images`), and augmentation works
on whole batches, so that loading never bounds training. A larger one stays on disk (`Files`) and is
decoded by worker processes. `Batches` serves both. `Loaders` hold batches of one's own, of
whatever a task takes.

Imports errors, graph and io.
"""

from ftwt.data.augment import Augment, ResizedCrop
from ftwt.data.batches import Batches
from ftwt.data.dataset import Dataset, Split
from ftwt.data.files import Files
from ftwt.data.images import Images
from ftwt.data.loading import load, load_any
from ftwt.data.own import Loaders
from ftwt.data.splits import holdout

# By what it does.
serve = Batches

__all__ = [
    "Augment",
    "Batches",
    "Dataset",
    "Files",
    "Images",
    "Loaders",
    "ResizedCrop",
    "Split",
    "holdout",
    "load",
    "load_any",
    "serve",
]
