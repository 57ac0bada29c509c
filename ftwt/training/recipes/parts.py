"""What all recipes share: a plain training, and the paper's method on top of one."""

from dataclasses import dataclass, field

from ftwt import gates, losses, targets
from ftwt.data import Augment, ResizedCrop
from ftwt.gated.pruning import Pruning
from ftwt.training.optimizers import Sgd
from ftwt.training.phases import Phase, freeze_gates_halfway
from ftwt.training.precision import Amp
from ftwt.training.recipes.recipe import Overrides, Recipe
from ftwt.training.settings import Settings


@dataclass(frozen=True)
class Serving:
    """How images are served and computed: a step's images, augmentation, precision.

    `fast` is bfloat16 where a device is fast at it, and weights and images in channels_last.
    """

    batch_size: int = 128
    augment: Augment | ResizedCrop = field(default_factory=Augment)
    fast: bool = False

    def recipe(
        self,
        network: str,
        overrides: Overrides,
        phases: tuple[Phase, ...],
        optimizers: tuple[Sgd, Sgd | None],
        objective: losses.Objective,
        pruning: Pruning | None = None,
    ) -> Recipe:
        """The recipe of these parts."""
        amp: Amp | None = "auto" if self.fast else None
        settings = Settings(
            phases, *optimizers, amp=amp, channels_last=self.fast, seed=overrides.seed or 0
        )
        return Recipe(network, settings, objective, pruning, self.batch_size, self.augment)


def plain_recipe(
    network: str, overrides: Overrides, serving: Serving, *, epochs: int, backbone: Sgd
) -> Recipe:
    """A network without gates that learns its labels."""
    phases = (Phase("dense", overrides.epochs or epochs),)
    objective = losses.Objective.of(losses.CrossEntropy())
    return serving.recipe(network, overrides, phases, (backbone, None), objective)


def gated_recipe(
    network: str,
    overrides: Overrides,
    serving: Serving,
    *,
    epochs: int,
    mass: float,
    backbone: Sgd,
    gates_learn: Sgd,
) -> Recipe:
    """The paper's method: gates learn from heatmaps and are frozen after half of the epochs."""
    pruning, objective = method(overrides, gates.PooledLinear(normalize=overrides.normalize), mass)
    phases = freeze_gates_halfway(overrides.epochs or epochs)
    return serving.recipe(network, overrides, phases, (backbone, gates_learn), objective, pruning)


def method(overrides: Overrides, gate: gates.Gate, mass: float) -> tuple[Pruning, losses.Objective]:
    """A gate that learns from heatmaps, `mass` unless another was chosen, and what it learns by."""
    chosen = mass if overrides.mass is None else overrides.mass
    pruning = Pruning(
        gate, targets.HeatmapMass(chosen), overrides.coupling,
        target_source=overrides.target_source,
    )  # fmt: skip
    objective = losses.CrossEntropy() + losses.GateBCE()
    return pruning, objective + losses.Distillation() if overrides.distill else objective
