"""Images in memory: data sets, splits and batches.

    shapes = load("shapes")
    train, validation = holdout(shapes.train)
    loader = Batches(train, 128, mean=shapes.mean, std=shapes.std, augment=Augment(), shuffle=True)

A split is kept as one uint8 tensor, and augmentation works on whole batches, so that loading never
bounds training.
"""

from ftwt.data.augment import Augment
from ftwt.data.batches import Batches
from ftwt.data.images import Dataset, Images
from ftwt.data.loading import load
from ftwt.data.splits import holdout

__all__ = ["Augment", "Batches", "Dataset", "Images", "holdout", "load"]
