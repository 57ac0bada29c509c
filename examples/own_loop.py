"""A training loop of one's own: `trace`, objective, `backward`, with a budget in the loss."""

import sys

import torch

import ftwt
from ftwt import data, gates, losses, targets

IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
EPOCHS, BUDGET = 2, 0.6

torch.manual_seed(0)
shapes = data.load("shapes", limit=IMAGES)
batches = data.Batches(
    shapes.train, 50, augment=data.Augment(), shuffle=True, mean=shapes.mean, std=shapes.std
)
# The budget's loss reaches the gates through what they decide: straight through.
pruning = ftwt.Pruning(target=targets.HeatmapMass(0.9), estimator=gates.StraightThrough())
model = ftwt.attach(ftwt.backbones.resnet8(), pruning, example=torch.zeros(1, 3, 32, 32))
objective = losses.CrossEntropy() + losses.GateBCE() + 5.0 * losses.MacBudget(BUDGET)
optimizer = torch.optim.SGD(
    [
        {"params": model.backbone_parameters(), "lr": 0.02, "weight_decay": 5e-4},
        {"params": model.gate_parameters(), "lr": 0.1},
    ],
    momentum=0.9,
)
for epoch in range(EPOCHS):
    cost = 0.0
    for images, labels in batches:
        trace = model.trace(images)
        report = objective(trace, labels)
        optimizer.zero_grad()
        report.total.backward()
        optimizer.step()
        cost += trace.macs.double().sum().item() / model.dense_macs
    parts = ", ".join(f"{name} {loss.item():.2f}" for name, loss in report.parts.items())
    print(f"epoch {epoch + 1}: {parts}, {cost / len(shapes.train):.1%} of the MACs ran")
