"""Training: phases, optimizers, the loop, recipes and run folders.

Imports graph to data; budgets and reports are unknown to it.
"""

from ftwt.training import tasks
from ftwt.training.epoch import Checkpointer, StepEvent
from ftwt.training.evaluation import Evaluation, evaluate
from ftwt.training.loop import Epoch, fit
from ftwt.training.optimizers import (
    AdamW,
    Constant,
    Cosine,
    OneCycle,
    Optimizer,
    Schedule,
    Sgd,
    Steps,
    Torch,
    Warmup,
)
from ftwt.training.phases import Phase, freeze_gates_halfway
from ftwt.training.recipes import CATALOGUE, Escalation, Overrides, Recipe, recipe
from ftwt.training.settings import Settings
from ftwt.training.signals import Interrupted
from ftwt.training.state import TrainingState, start
from ftwt.training.step import answered, observe

__all__ = [
    "CATALOGUE",
    "AdamW",
    "Checkpointer",
    "Constant",
    "Cosine",
    "Epoch",
    "Escalation",
    "Evaluation",
    "Interrupted",
    "OneCycle",
    "Optimizer",
    "Overrides",
    "Phase",
    "Recipe",
    "Schedule",
    "Settings",
    "Sgd",
    "StepEvent",
    "Steps",
    "Torch",
    "TrainingState",
    "Warmup",
    "answered",
    "evaluate",
    "fit",
    "freeze_gates_halfway",
    "observe",
    "recipe",
    "start",
    "tasks",
]
