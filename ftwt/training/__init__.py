"""Training: phases, optimizers, the loop, recipes and run folders."""

from ftwt.training.evaluation import Evaluation, evaluate
from ftwt.training.loop import Epoch, State, fit, observe, start
from ftwt.training.optimizers import Constant, Cosine, OneCycle, Schedule, Sgd, Steps, Warmup
from ftwt.training.phases import Phase
from ftwt.training.recipes import CATALOGUE, Choices, Recipe, recipe
from ftwt.training.settings import Settings

__all__ = [
    "CATALOGUE",
    "Choices",
    "Constant",
    "Cosine",
    "Epoch",
    "Evaluation",
    "OneCycle",
    "Phase",
    "Recipe",
    "Schedule",
    "Settings",
    "Sgd",
    "State",
    "Steps",
    "Warmup",
    "evaluate",
    "fit",
    "observe",
    "recipe",
    "start",
]
