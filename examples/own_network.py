"""From a dense network of one's own to a gated one that skips: train, gate, test, time, save."""

import sys
import tempfile
import time

import torch
from torch import nn

import ftwt
from ftwt import data, gates, losses, runtime, targets, training


def network(classes: int) -> nn.Module:
    """Any network of convolutions will do; this one is plain torch."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
torch.manual_seed(0)
shapes = data.load("shapes", limit=IMAGES)
pixels = {"mean": shapes.mean, "std": shapes.std}
train, held = data.holdout(shapes.train)
batches = data.Batches(train, 50, augment=data.Augment(), shuffle=True, **pixels)
validation = data.Batches(held, 50, **pixels)
plain = network(len(shapes.classes))
optimizer = torch.optim.Adam(plain.parameters(), 3e-3)
for _ in range(3):
    for images, labels in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(images), labels).backward()
        optimizer.step()

result = (
    ftwt.Pipeline(plain, example=torch.zeros(1, 3, 32, 32))
    .gate(gates.PooledLinear())
    .target(targets.HeatmapMass(0.9))
    .loss(losses.CrossEntropy() + losses.GateBCE())
    .schedule(training.Phase("gates", 1), training.Phase("freeze", 1, train="backbone"))
    .fit(batches, validation)
)
model = result.model.eval()
tested = training.evaluate(model, validation)
print(f"accuracy {tested.accuracy:.1%}, {tested.reduction_exact:.1%} fewer MACs, gates counted")

image = next(iter(validation))[0][:1]
with torch.inference_mode():
    for name, run in (("masked", model), ("skipping", runtime.skip(model))):
        run(image)
        start = time.perf_counter()
        run(image)
        print(f"{name}: {1e3 * (time.perf_counter() - start):.2f} ms")

with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/model.safetensors"
    ftwt.save(model, path, ftwt.Card(None, len(shapes.classes)))
    again, _ = ftwt.load(path, network(len(shapes.classes)))
