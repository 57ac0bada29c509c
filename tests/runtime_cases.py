"""Gated networks for the tests of `skip`, and what every answer of it has to satisfy."""

import pytest
import torch
from torch import nn

import ftwt
from ftwt import gates, runtime
from ftwt.runtime import native

BACKENDS = ("dense", "torch", *(("native",) if native.available() else ()))
both = pytest.mark.parametrize("backend", BACKENDS)


def noisy(network):
    """Batch norms that do something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -1, 1)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def gated(network, *example, share=0.5, **options):
    example = example or (torch.zeros(1, 3, 8, 8),)
    pruning = ftwt.Pruning(gate=gates.Random(share))
    return ftwt.attach(noisy(network), pruning, example=example, **options).eval()


def everything(name, module):
    return True


def check(model, *inputs, backend="torch"):
    """Same outputs, inputs left alone, executed as counted; returns the program."""
    fast = runtime.skip(model, backend=backend)
    kept = [one.clone() for one in inputs]
    with torch.no_grad():
        expected = model(*[one.clone() for one in inputs])
    answer = fast(*inputs)
    leaves = torch.utils._pytree.tree_leaves
    for one, two in zip(leaves(answer), leaves(expected), strict=True):
        assert (one - two).abs().max() <= 1e-4 * two.abs().max() + 1e-6
    assert all(torch.equal(one, two) for one, two in zip(inputs, kept, strict=True))
    assert set(fast.audit(*inputs).differing) <= set(fast.audit(*inputs).dense)
    return fast.program(*inputs)


def small():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Upside:
    def weights(self, logits, *, training=False):
        return (logits < 0).to(logits.dtype)
