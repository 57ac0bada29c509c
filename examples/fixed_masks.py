"""Static pruning: the same filters for all images, cut out for good; any engine runs the rest."""

import sys

import torch
from torch import nn

import ftwt
from ftwt import data, gates, slicing, training
from ftwt.budget.static import inner_sites, mean_scores, uniform_masks, weight_scores

IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 4000

torch.manual_seed(0)
shapes = data.load("shapes", limit=IMAGES)
images = data.Batches(shapes.train, 50, shuffle=True, mean=shapes.mean, std=shapes.std)
example = torch.zeros(1, 3, 32, 32)
network = ftwt.backbones.resnet8()
optimizer = torch.optim.Adam(network.parameters(), 3e-3)
for _ in range(3):
    for pixels, labels in images:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(pixels), labels).backward()
        optimizer.step()
network.eval()

sites = inner_sites(network, example)  # residual trunks stay whole
every = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=example, where=sites)
macs = 0.5 * every.dense_macs
for name, masks in (
    ("weakest answers first", uniform_masks(every, mean_scores(every, images), macs)),
    ("smallest weights first", uniform_masks(every, weight_scores(every), macs)),
):
    model = ftwt.attach(network, ftwt.Pruning(masks), example=example, where=sites).eval()
    found = training.evaluate(model, images)
    print(f"{name}: {found.reduction_exact:.1%} fewer MACs, accuracy {found.accuracy:.1%} so far")

small = slicing.cut(model)
assert torch.allclose(small(example), model(example), atol=1e-4)
weights = [sum(p.numel() for p in one.parameters()) for one in (small, network)]
print(f"an ordinary network of {weights[0]:,} parameters in place of {weights[1]:,}")
