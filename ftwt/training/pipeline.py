"""A typed builder for the whole method: each step returns a new value, in one order only.

A step out of order is an error of the type checker, as the value before it has no such method,
and a clear `FtwtError` when it is run all the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

from torch import Tensor, nn

from ftwt.errors import FtwtError
from ftwt.gated.attach import attach
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Coupling, Pruning, TargetSource
from ftwt.gates.estimators import Hard
from ftwt.gates.interface import Estimator, Gate
from ftwt.graph.sites import SiteFilter
from ftwt.losses.distillation import with_teacher
from ftwt.losses.interface import Loss, Objective, is_loss
from ftwt.targets.interface import GradientTarget, Rule, Target
from ftwt.training.epoch import TrainingBatches
from ftwt.training.loop import Epoch, fit
from ftwt.training.optimizers import Cosine, Optimizer, Sgd
from ftwt.training.phases import Phase
from ftwt.training.precision import Amp
from ftwt.training.recipes.recipe import Recipe
from ftwt.training.settings import Settings
from ftwt.training.state import TrainingState, start
from ftwt.training.tasks import LABELLED, Task, answering

_ORDER = ("gate", "target", "loss", "schedule", "fit")


class Result(NamedTuple):
    """A trained gated network, one entry for each epoch, and the best epoch by validation."""

    model: Gated
    history: tuple[Epoch, ...]
    best_epoch: int


class Switches(TypedDict, total=False):
    """Switches of the training loop, as `training.Settings` explains them."""

    amp: Amp | None
    channels_last: bool
    compile: bool
    accumulate: int
    clip_norm: float | None
    ema: float | None
    seed: int


class _Ordered:
    """Says which step comes next where another one is called."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name in _ORDER:
                here = next(step for step in _ORDER if step in vars(type(self)))
                raise FtwtError(
                    f"Pipeline: .{name}() was called where .{here}() comes next; "
                    f"the order is .{'().'.join(_ORDER)}()"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


@dataclass(frozen=True)
class Pipeline(_Ordered):
    """The network to gate, and an example of its input.

    result = (
        Pipeline(net, example=torch.zeros(1, 3, 32, 32))
        .gate(gates.PooledLinear())
        .target(targets.HeatmapMass(0.9))
        .loss(losses.CrossEntropy() + losses.GateBCE())
        .schedule(training.Phase("gates", 10), training.Phase("freeze", 10, train="backbone"))
        .fit(train_loader, val_loader)
    )
    """

    network: nn.Module
    example: Tensor | tuple[Tensor, ...]
    where: SiteFilter | None = None

    def gate(self, gate: Gate, *, estimator: Estimator | None = None) -> "WithGate":
        """Choose the gate, and how its logits are thresholded (`gates.Hard()` by default)."""
        _expect("gate", gate, isinstance(gate, Gate), "a gate", "gates.PooledLinear()")
        return WithGate(self, gate, estimator or Hard())


@dataclass(frozen=True)
class WithGate(_Ordered):
    """A pipeline that knows its gate."""

    start: Pipeline
    chosen: Gate
    estimator: Estimator

    def target(
        self,
        target: Rule,
        *,
        coupling: Coupling = "decoupled",
        source: TargetSource = "masked",
    ) -> "WithTarget":
        """Choose what the gates learn, and whether their loss reaches the backbone ("joint").

        `source` is `Pruning`'s target_source: whose features targets come from.
        """
        _expect(
            "target",
            target,
            isinstance(target, Target | GradientTarget),
            "a target",
            "targets.HeatmapMass(0.9)",
        )
        pruning = Pruning(self.chosen, target, coupling, self.estimator, source)
        return WithTarget(self.start, pruning)


@dataclass(frozen=True)
class WithTarget(_Ordered):
    """A pipeline that knows its gate and target: ready to attach, or to train."""

    start: Pipeline
    pruning: Pruning

    def attach(self) -> Gated:
        """Return the gated network untrained."""
        start = self.start
        return attach(start.network, self.pruning, example=start.example, where=start.where)

    def loss(self, loss: Loss | Objective) -> "WithLoss":
        """Choose what to minimise."""
        fits = isinstance(loss, Objective) or is_loss(loss)
        _expect("loss", loss, fits, "a loss", "losses.CrossEntropy() + losses.GateBCE()")
        return WithLoss(self, Objective.of(loss))


@dataclass(frozen=True)
class WithLoss(_Ordered):
    """A pipeline that knows what to minimise."""

    before: WithTarget
    objective: Objective

    def schedule(
        self, *phases: Phase, backbone: Optimizer | None = None, gates: Optimizer | None = None
    ) -> "Ready":
        """Choose the phases, and the optimizers of backbone and gates.

        The optimizers default to the paper's dynamic training: lr 0.01 with weight decay 5e-4 for
        the backbone, lr 0.1 without weight decay for the gates, here along a cosine.
        """
        for phase in phases:
            fits = isinstance(phase, Phase)
            _expect("schedule", phase, fits, "phases", 'training.Phase("gates", 10)')
        settings = Settings(
            phases,
            backbone or Sgd(0.01, weight_decay=5e-4, schedule=Cosine()),
            gates or Sgd(0.1, schedule=Cosine()),
        )
        return Ready(self, settings)


@dataclass(frozen=True)
class Ready(_Ordered):
    """A pipeline that can be run."""

    before: WithLoss
    settings: Settings

    def with_settings(self, **switches: Unpack[Switches]) -> "Ready":
        """Set switches of the training loop, see `training.Settings`; the others stay."""
        known = Switches.__annotations__
        for name in switches:
            if name not in known:
                raise FtwtError(
                    f"Pipeline.with_settings: {name!r} is unknown; use one of {', '.join(known)}"
                )
        return replace(self, settings=replace(self.settings, **switches))

    def recipe(
        self, network: str | Callable[..., nn.Module] | None = None, *, task: Task = LABELLED
    ) -> Recipe:
        """The same training as a recipe, for run folders and the command line.

        Args:
            network: a name of `ftwt.networks`, or a function at the top of a module that makes the
                network, so that its runs load by themselves. None: the network that was given, with
                its weights as the start.
            task: where in the network's output the logits are.
        """
        before = self.before.before
        start = before.start
        sites = None if start.where is None else before.attach().sites
        return Recipe(
            start.network if network is None else network,
            self.settings, self.before.objective, before.pruning, sites=sites, task=task,
        )  # fmt: skip

    def fit(
        self,
        train: TrainingBatches,
        validation: Iterable[Any],
        *,
        task: Task = LABELLED,
        after_epoch: Callable[[Epoch], None] | None = None,
    ) -> Result:
        """Attach, train, and return the best model by the task's score on validation.

        A `losses.Distillation()` without a teacher is taught by the network that was given.
        `train` and `validation` give what the task takes, by default images and labels; the network
        that was given is untouched.
        """
        history: list[Epoch] = []

        def note(row: Epoch, _: TrainingState) -> None:
            history.append(row)
            if after_epoch is not None:
                after_epoch(row)

        model = self.before.before.attach()
        state = start(model, self.settings, len(train))
        teacher = answering(self.before.before.start.network, task)
        objective = with_teacher(self.before.objective, teacher)
        fit(state, objective, self.settings, train, validation, task=task, after_epoch=note)
        return Result(model.eval(), tuple(history), state.best_epoch)


def _expect(step: str, given: object, fits: bool, what: str, example: str) -> None:
    if not fits:
        raise FtwtError(
            f"Pipeline.{step}: got {type(given).__name__}, expected {what}; "
            f"for example .{step}({example})"
        )
