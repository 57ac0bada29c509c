"""Whole networks from blocks: inputs, outputs and calls as people write them."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


class Classifier(nn.Module):
    """A stem, blocks and a classifier."""

    inputs = 1

    def __init__(self, c, blocks):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU())
        self.blocks = nn.Sequential(*blocks)
        self.tail, self.fc = nn.Conv2d(c, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.tail(self.blocks(self.stem(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class Flat(nn.Module):
    """The classifier reads positions one by one; the size is fixed."""

    inputs = 1

    def __init__(self, c, blocks):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, c, 3, padding=1), nn.ModuleList(blocks)
        self.pool, self.fc = nn.AdaptiveMaxPool2d((2, 3)), nn.Linear(6 * c, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        for block in self.blocks:
            x = block(x)
        return self.fc(self.pool(x).reshape(x.size(0), -1)).log_softmax(dim=-1)


class Maps(nn.Module):
    """A map for each class, and an auxiliary one, by name."""

    inputs = 1

    def __init__(self, c, blocks):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, c, 3, 2, 1), nn.Sequential(*blocks)
        self.aux, self.head = nn.Conv2d(c, 2, 1), nn.Conv2d(c, 2, 3, padding=1)

    def forward(self, x):
        size = x.shape[-2:]
        early = F.relu(self.stem(x))
        out = OrderedDict()
        out["out"] = F.interpolate(self.head(self.blocks(early)), size=size, mode="bilinear")
        out["aux"] = self.aux(early)
        return out


class Pair(nn.Module):
    """Two inputs through shared weights; a tuple comes out."""

    inputs = 2

    def __init__(self, c, blocks):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, c, 3, padding=1), nn.Sequential(*blocks)
        self.mix, self.head = nn.Conv2d(2 * c, c, 1), nn.Conv2d(c, 3, 1)

    def forward(self, x, other):
        one, two = F.relu(self.stem(x)), F.relu(self.stem(other))
        both = F.relu(self.mix(torch.cat([self.blocks(one), two], 1)))
        return self.head(both), both.mean((2, 3))


class Siamese(nn.Module):
    """Both images as one batch through the encoder."""

    inputs = 2

    def __init__(self, c, blocks):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, c, 3, padding=1), nn.Sequential(*blocks)
        self.last, self.fc = nn.Conv2d(c, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, x, other):
        both = self.blocks(F.relu(self.stem(torch.cat([x, other]))))
        one, two = torch.chunk(F.relu(self.last(both)).mean((2, 3)), 2)
        return self.fc((one - two).abs())


class Switch(nn.Module):
    """Options with defaults, of which one changes what comes out."""

    inputs = 1

    def __init__(self, c, blocks):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, c, 3, padding=1), nn.Sequential(*blocks)
        self.last, self.fc = nn.Conv2d(c, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, x, mask=None, return_features=False):
        x = self.blocks(F.relu(self.stem(x)))
        if mask is not None:
            x = x * mask
        x = F.relu(self.last(x))
        logits = self.fc(x.mean((2, 3)))
        return (logits, x) if return_features else logits


@dataclass
class Answer:
    """What a network of a library answers with."""

    logits: torch.Tensor
    features: torch.Tensor


class Library(nn.Module):
    """A dataclass comes out."""

    inputs = 1

    def __init__(self, c, blocks):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, c, 3, padding=1), nn.Sequential(*blocks)
        self.last, self.fc = nn.Conv2d(c, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, pixel_values):
        x = F.relu(self.last(self.blocks(F.relu(self.stem(pixel_values)))))
        return Answer(logits=self.fc(x.mean((2, 3))), features=x)


NETS = (Classifier, Flat, Maps, Pair, Siamese, Switch, Library)
