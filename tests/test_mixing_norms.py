"""Norms and activations after a convolution that need filters which a mask leaves out."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import escalation, gates, runtime, slicing

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Excited(nn.BatchNorm2d):
    """A norm of a library's own, with a look at all channels inside."""

    def forward(self, x):
        return super().forward(x) * x.mean((1, 2, 3), keepdim=True).sigmoid()


class Activated(nn.BatchNorm2d):
    """One that keeps channels apart."""

    def forward(self, x):
        return F.elu(super().forward(x))


class OwnStatistics(nn.Module):
    """Batch norm as a function, by the statistics of the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.last(F.batch_norm(self.conv(x), None, None, training=True).relu())


def _modules(norm, activation=None):
    last = nn.Conv2d(8, 4, 1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, activation or nn.ReLU(), last)


def _hooked(module):
    module.register_forward_hook(lambda _, __, answer: answer + answer.mean(1, keepdim=True))
    return module


def _replaced(module):
    module.forward = lambda x: x / (1 + x.abs().amax(1, keepdim=True))
    return module


NETWORKS = {
    "statistics of the batch": lambda: _modules(nn.BatchNorm2d(8, track_running_stats=False)),
    "the same as a function": OwnStatistics,
    "a norm that mixes channels": lambda: _modules(Excited(8)),
    "a hooked norm": lambda: _modules(_hooked(nn.BatchNorm2d(8))),
    "a hooked activation": lambda: _modules(nn.BatchNorm2d(8), _hooked(nn.ReLU())),
    "another forward": lambda: _modules(_replaced(nn.BatchNorm2d(8))),
}


def _attached(network):
    torch.manual_seed(0)
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=IMAGES[:1], check=False)
    return model.eval()


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_what_needs_every_filter_is_given_every_filter(kind):
    model = _attached(NETWORKS[kind]().eval())
    masks = torch.rand(3, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    name = model.sites[0]
    masked = escalation.with_gate(model, gates.Fixed({name: masks}))
    for backend in ("dense", "torch"):
        fast = runtime.skip(masked, backend=backend)
        assert torch.allclose(fast(IMAGES), masked(IMAGES), atol=1e-5)
        assert name in fast.audit(IMAGES).dense
    one = escalation.with_gate(model, gates.Fixed({name: masks[:1]}))
    for fold in (True, False):
        small = slicing.cut(model, {name: masks[0]}, fold=fold)
        assert torch.allclose(small(IMAGES), one(IMAGES), atol=1e-5)


@torch.no_grad()
def test_a_librarys_norm_that_keeps_channels_apart_is_skipped():
    model = _attached(_modules(Activated(8)).eval())
    masked = escalation.with_gate(model, gates.Random(0.5))
    fast = runtime.skip(masked)
    assert torch.allclose(fast(IMAGES), masked(IMAGES), atol=1e-5)
    assert fast.audit(IMAGES).dense == ()
