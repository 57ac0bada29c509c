"""The components that the laws hold for: list a new one here and it is tested."""

import torch

from ftwt import gates, losses, targets
from ftwt.data import Augment
from ftwt.gated.escalation import Confidence, Entropy, Margin, Policy, Temperature
from ftwt.gated.operating_points import OperatingPoint
from ftwt.gated.pruning import Pruning
from ftwt.gates.narrowed import Part
from ftwt.training import Constant, Cosine, OneCycle, Phase, Recipe, Settings, Sgd, Steps, Warmup

TARGETS = (
    targets.HeatmapMass(0.5),
    targets.HeatmapMass(0.9),
    targets.HeatmapMass(0.95, boundary="reach"),
    targets.HeatmapMass(0.8, min_channels=3),
    targets.HeatmapMass(0.8, score="mean"),
    targets.HeatmapMass(0.8, score="l2"),
    targets.HeatmapMass(1.0),
    targets.TopK(0.3),
    targets.TopK(0.5, score="l2"),
    targets.Active(),
)

TRAINABLE_GATES = (
    gates.PooledLinear(),
    gates.PooledLinear(pool="mean"),
    gates.PooledLinear(normalize="none"),
    gates.PooledLinear(normalize="layer"),
    gates.Bottleneck(2),
    gates.Bottleneck(4, pool="mean", normalize="none"),
    gates.PooledLinear(pool="mean_std", normalize="batch"),
    gates.PooledLinear(pool="mean_std", normalize="layer"),
    gates.PooledLinear(normalize="batch"),
    gates.Bottleneck(3, pool="mean_std", normalize="batch"),
    gates.PooledLinear(pool="mean_std", normalize="batch", open=0.5),
    gates.PooledLinear(open=2.0),
    gates.Bottleneck(3, normalize="layer", open=1.0),
    gates.ByCost(gates.PooledLinear(), gates.Bottleneck(2), share=0.02),
    gates.Follow(gates.PooledLinear()),
)

OPEN_GATES = tuple(gate for gate in TRAINABLE_GATES if getattr(gate, "open", None) is not None)

GATES = (*TRAINABLE_GATES, gates.Oracle(), gates.Random(0.5), gates.Fixed({}))

DIFFERENTIABLE = (gates.StraightThrough(), gates.Gumbel(), gates.Gumbel(0.3))

ESTIMATORS = (gates.Hard(), *DIFFERENTIABLE)

LOSSES = (
    losses.CrossEntropy(),
    losses.CrossEntropy(label_smoothing=0.1),
    losses.GateBCE(),
    losses.GateBCE(balance="site"),
    losses.GateBCE(balance="filter"),
    losses.MacBudget(0.1),
    losses.Distillation(),
    losses.Distillation(temperature=2.0, weight=1.0),
)

SCHEDULES = (
    Constant(),
    Steps((0.3, 0.6)),
    Cosine(),
    OneCycle(0.2),
    Warmup(Cosine(), 0.1),
    Warmup(Steps((0.5,)), 0.1),
)

SIGNALS = (
    Margin(),
    Confidence(),
    Entropy(),
    Temperature(Margin(), 0.25),
)

SPECS = (
    *TARGETS,
    targets.PerSite({"conv1": targets.HeatmapMass(0.9), "layer1.0.conv1": targets.TopK(0.5)}),
    *GATES,
    *SIGNALS,
    Policy(SIGNALS[:2], (0.25, 1.0), 0.7),
    gates.Fixed({"layer1.0.conv1": torch.tensor([True, False, True])}),
    gates.Narrowed({"conv1": Part(gates.PooledLinear(), 3, 8, 64, (0, 2), (7,))}),
    *ESTIMATORS,
    *LOSSES,
    *SCHEDULES,
    losses.CrossEntropy() + 0.5 * losses.GateBCE(),
    Pruning(),
    Pruning(gates.Bottleneck(8), targets.TopK(0.5), "joint", gates.StraightThrough()),
    Pruning(estimator=gates.Gumbel(0.5), target_source="dense"),
    Pruning(target_source="teacher"),
    Sgd(0.1, weight_decay=5e-4, schedule=Steps((0.5,))),
    Phase("gates", 3, train="gates"),
    Phase(
        "several",
        3,
        train="backbone",
        operating_points=(OperatingPoint(0.3, 0.31, 0.9, {"conv1": 1.5}),),
    ),
    Augment(pad=2),
    Settings((Phase("a", 1), Phase("b", 2, train="backbone")), Sgd(0.1), Sgd(0.2)),
    Recipe(
        "cifar10-resnet8",
        Settings((Phase("a", 1),), Sgd(0.1)),
        losses.Objective.of(losses.CrossEntropy()),
        Pruning(),
    ),
)
