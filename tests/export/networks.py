"""Small networks that the format holds."""

import torch
import torch.nn.functional as F
from torch import nn

import ftwt
from ftwt.gated.operating_points import OperatingPoint


def images(count=3, seed=1):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def plain(width=8, seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width), nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1), nn.Conv2d(width, 2 * width, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 5),
    ).eval()  # fmt: skip
    # Answers that are more and less sure, as after training.
    network[-1].weight.data *= 12
    return network


def gated(gate=None, width=8, seed=0):
    """With thresholds that let about half of the filters run, and two calibrated reductions."""
    pruning = ftwt.Pruning(gate=gate or ftwt.gates.PooledLinear(normalize="layer"))
    model = ftwt.attach(plain(width, seed), pruning, example=images(1)).eval()
    return calibrated(model, 0.05)


def calibrated(model, threshold):
    low, high = (dict.fromkeys(model.sites, value) for value in (-0.2, 0.3))
    points = (OperatingPoint(0.2, 0.2, 0.5, low), OperatingPoint(0.6, 0.6, 0.4, high))
    return model.with_thresholds(dict.fromkeys(model.sites, threshold), points)


def escalating(width=8, **settings):
    """Three settings: fixed masks, which are cut in advance, gates, and every filter."""
    model = gated(width=width)
    kept = {
        name: torch.arange(model.get_submodule(name).out_channels) % 2 == 0 for name in model.sites
    }
    fixed = ftwt.escalation.with_gate(model, ftwt.gates.Fixed(kept))
    whole = ftwt.escalation.every_filter(model)
    by = (ftwt.escalation.Temperature(ftwt.escalation.Margin(), 0.5), ftwt.escalation.Entropy())
    made = ftwt.escalate([fixed, model, whole], by=by, thresholds=(0.6, 0.3), **settings)
    points = (
        OperatingPoint(0.1, 0.1, 0.5, {"0": 0.9, "1": 0.9}),
        OperatingPoint(0.5, 0.5, 0.4, {"0": 0.1, "1": 0.1}),
    )
    return made.with_thresholds(made.thresholds, points)


class Mixed(nn.Module):
    """Joins, shuffles, excites, adds and pools: steps that a chain has not."""

    def __init__(self, width=8):
        super().__init__()
        self.begin, self.side = nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(2 * width)
        self.excite, self.back = (
            nn.Linear(2 * width, 2 * width),
            nn.Conv2d(2 * width, width, 3, 2, 1),
        )
        self.far, self.end = nn.Conv2d(width, width, 3, 1, 2, 2, groups=2), nn.Linear(width, 5)

    def forward(self, x):
        x = F.relu(self.begin(x))
        x = torch.cat([x, F.silu(self.side(x))], 1)
        x = F.hardswish(self.norm(x))
        x = x * self.excite(x.mean((2, 3))).sigmoid()[:, :, None, None]
        x = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        x = F.relu6(self.back(x))
        x = x[:, :, ::2, ::2] + F.avg_pool2d(self.far(x), 2)
        return self.end(F.max_pool2d(x, 2).flatten(1))


def mixed():
    torch.manual_seed(0)
    network = Mixed().eval()
    model = ftwt.attach(network, ftwt.Pruning(ftwt.gates.Bottleneck(4)), example=images(1)).eval()
    return calibrated(model, 0.02)
