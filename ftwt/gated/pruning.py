"""How a network is gated, as a value."""

from dataclasses import dataclass, field
from typing import Literal

from ftwt.errors import FtwtError, check_choice
from ftwt.gates.estimators import Hard
from ftwt.gates.interface import Estimator, Gate, is_oracle
from ftwt.gates.pooled_linear import PooledLinear
from ftwt.targets.heatmap_mass import HeatmapMass
from ftwt.targets.interface import GradientTarget, Rule, Target

Coupling = Literal["decoupled", "joint"]
TargetSource = Literal["masked", "dense", "teacher"]

_KINDS = {
    "gate": (Gate, "build(site) and macs(live, site)"),
    "target": (Target | GradientTarget, "keep(features) or keep_by_gradient(features, gradient)"),
    "estimator": (Estimator, "weights(logits, training=)"),
}


@dataclass(frozen=True)
class Pruning:
    """How a network is gated: the gate, the target it learns, and how both are coupled.

    `coupling="decoupled"`: gates read a detached input, so the gate loss trains gates only.
    "joint": it also reaches the backbone. With `gates.Hard()` the task's loss never reaches a gate.

    `target_source="masked"`: targets come from features of the pass itself, as in FTWT, which
    earlier masks have changed. "dense": from the present weights without any mask. "teacher": from
    the weights that training started with, without any mask, so that targets do not move while the
    network learns to put its mass into fewer filters. The latter two take one more pass without
    gradient for each traced batch (`Gated.dense_targets`).
    """

    gate: Gate = field(default_factory=PooledLinear)
    target: Rule = field(default_factory=lambda: HeatmapMass(0.9))
    coupling: Coupling = "decoupled"
    estimator: Estimator = field(default_factory=Hard)
    target_source: TargetSource = "masked"

    def __post_init__(self) -> None:
        for name, (kind, methods) in _KINDS.items():
            part = getattr(self, name)
            # A class has its instances' methods, too, so the protocol would take it.
            if isinstance(part, type):
                raise FtwtError(
                    f"Pruning: {name} is the class {part.__name__}; give an instance, "
                    f"{part.__name__}(...)"
                )
            if not isinstance(part, kind):
                came = " ".join(repr(part).split())
                raise FtwtError(
                    f"Pruning: {name}={came} is no {name}, which has {methods}; give an instance, "
                    f"such as {name}={getattr(Pruning(), name)!r}"
                )
        check_choice("Pruning", "coupling", self.coupling, ("decoupled", "joint"))
        sources = ("masked", "dense", "teacher")
        check_choice("Pruning", "target_source", self.target_source, sources)
        if is_oracle(self.gate) and not isinstance(self.target, Target):
            raise FtwtError(
                f"Pruning: {type(self.gate).__name__} answers with the target, but "
                f"{type(self.target).__name__} needs the loss's gradient, which is not known then; "
                "give a gate that learns, or a target of features alone"
            )
