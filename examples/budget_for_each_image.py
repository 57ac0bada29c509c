"""A narrow network for all images, the whole one where that is unsure; what ftwt recommends."""

import sys

import torch
from torch import nn

import ftwt
from ftwt import analysis, data, runtime, training
from ftwt.budget.static import inner_sites, mean_scores, uniform_masks

IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 4000

torch.manual_seed(0)
shapes = data.load("shapes", limit=IMAGES)
pixels = {"mean": shapes.mean, "std": shapes.std}
train, held = data.holdout(shapes.train, fraction=0.25)
batches = data.Batches(train, 50, shuffle=True, **pixels)
validation = data.Batches(held, 50, **pixels)
example = torch.zeros(1, 3, 32, 32)


def trained(network: nn.Module, epochs: int) -> nn.Module:
    """Some epochs of Adam."""
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    return network.eval()


whole = trained(ftwt.backbones.resnet8(), 4)
# The narrow one keeps the filters that answer most, the same for all images, and learns on.
sites = inner_sites(whole, example)
every = ftwt.attach(whole, ftwt.Pruning(ftwt.gates.Fixed({})), example=example, where=sites)
masks = uniform_masks(every, mean_scores(every, validation), 0.3 * every.dense_macs)
narrow = trained(ftwt.attach(whole, ftwt.Pruning(masks), example=example, where=sites), 2)

escalating = ftwt.escalate([narrow, whole])
escalating = ftwt.calibrate(escalating, validation, reduction=0.4)
for name, model in (("narrow", narrow), ("shared budget", escalating)):
    found = training.evaluate(model, validation)
    print(f"{name}: accuracy {found.accuracy:.1%}, {found.reduction_exact:.1%} fewer MACs")
print(analysis.dynamism(escalating, validation).verdict)

fast = runtime.skip(escalating)  # only images that go on run twice
images = next(iter(validation))[0]
assert torch.allclose(fast(images), escalating(images), atol=1e-3)
