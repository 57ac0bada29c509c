"""Tasks: what a batch is, the loss, the metrics and which is better, as values.

Imports errors, losses and io; measures and trainings take a task as `task=`. Metrics of
segmentation and detection come from torchmetrics (`pip install ftwt[tasks]`).
"""

from ftwt.training.tasks.classification import LABELLED, Classification
from ftwt.training.tasks.detection import Detection
from ftwt.training.tasks.interface import Meter, Task, answering
from ftwt.training.tasks.regression import Regression
from ftwt.training.tasks.segmentation import Segmentation

__all__ = [
    "LABELLED",
    "Classification",
    "Detection",
    "Meter",
    "Regression",
    "Segmentation",
    "Task",
    "answering",
]
