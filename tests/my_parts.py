"""Parts as a user of ftwt writes them; tests train, save and skip with them."""

from dataclasses import dataclass

import torch
from torch import nn

import ftwt


@ftwt.register
@dataclass(frozen=True)
class ByImage:
    """A gate that reads its pooled input, and an embedding of the image for all sites."""

    width: int = 6

    def prepare(self, sites):
        return _Embedding(self.width)

    def build(self, site):
        return _ByImage(self.width, site)

    def macs(self, live, site):
        return (live + self.width) * site.out_channels


class _Embedding(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed, self.tasks = nn.Linear(3, width), nn.Embedding(2, width)

    def forward(self, images, task=0):
        return self.embed(images.mean((2, 3))) + self.tasks.weight[task]


class _ByImage(nn.Module):
    def __init__(self, width, site):
        super().__init__()
        self.linear = nn.Linear(site.in_channels + width, site.out_channels)

    def forward(self, inputs, embedding):
        return self.linear(torch.cat([inputs.mean((2, 3)), embedding], 1))


@ftwt.register
@dataclass(frozen=True)
class Taylor:
    """Keep the filters whose removal would change the loss most, to first order."""

    share: float = 0.5

    def keep_by_gradient(self, features, gradient):
        scores = (features * gradient).sum((2, 3)).abs()
        kept = scores.topk(max(1, round(self.share * scores.shape[1])), 1).indices
        return torch.zeros_like(scores, dtype=torch.bool).scatter(1, kept, True)


@ftwt.register
def small_logits(trace, labels):
    """A loss as a plain function."""
    return trace.output.square().mean()


@ftwt.register
@dataclass(frozen=True)
class Adam:
    """An optimizer."""

    lr: float = 1e-2

    def build(self, parameters):
        return torch.optim.AdamW(parameters, lr=self.lr)


@ftwt.register
def network(num_classes=10):
    """A factory of networks."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, num_classes),
    )  # fmt: skip
