"""One model, several budgets: thresholds calibrated once, any reduction chosen at any call."""

import sys

import torch

import ftwt
from ftwt import data, gates, losses, runtime, targets, training

IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 4000

torch.manual_seed(0)
shapes = data.load("shapes", limit=IMAGES)
pixels = {"mean": shapes.mean, "std": shapes.std}
train, held = data.holdout(shapes.train, fraction=0.2)
batches = data.Batches(train, 50, shuffle=True, **pixels)
validation = data.Batches(held, 50, **pixels)

result = (
    ftwt.Pipeline(ftwt.backbones.resnet8(), example=torch.zeros(1, 3, 32, 32))
    .gate(gates.PooledLinear(normalize="layer"))
    .target(targets.HeatmapMass(0.85))
    .loss(losses.CrossEntropy() + losses.GateBCE())
    .schedule(training.Phase("gates", 2))
    .fit(batches, validation)
)
dial = ftwt.calibrate(result.model.eval(), validation, reductions=[0.3, 0.5, 0.6])
fast = runtime.skip(dial)  # prepared once
image = next(iter(validation))[0][:1]
for reduction in (0.3, 0.4, 0.5, 0.6):
    found = training.evaluate(dial.at(reduction=reduction), validation)
    answer = fast.at(reduction=reduction)(image).argmax().item()
    print(
        f"asked {reduction:.0%}: {found.reduction_exact:.1%} fewer MACs, "
        f"accuracy {found.accuracy:.1%}, the first image is class {answer}"
    )
