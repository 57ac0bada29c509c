"""A part of the wrong kind is refused where it is written; the right ones need one method."""

import re
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import gates, losses, targets, training
from ftwt.runtime.native import available
from tests.small import refused


def chain():
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 9, 3, padding=1), nn.ReLU(), nn.Conv2d(9, 7, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 4),
    )  # fmt: skip


def named(one):
    """Without addresses, which differ from process to process."""
    return re.sub(r" at 0x\w+", "", repr(one))[:30]


WRONG = [
    ("gate", gates.Hard()),
    ("gate", targets.TopK(0.5)),
    ("gate", losses.CrossEntropy()),
    ("gate", training.Sgd(0.1)),
    ("gate", nn.Linear(2, 2)),
    ("target", gates.Hard()),
    ("target", gates.PooledLinear()),
    ("target", nn.ReLU()),
    ("target", losses.CrossEntropy()),
    ("target", lambda features: features),
    ("estimator", targets.TopK(0.5)),
    ("estimator", losses.GateBCE()),
    ("estimator", torch.sigmoid),
    ("estimator", nn.Sequential(nn.ReLU(), nn.ReLU())),
]


@pytest.mark.parametrize(("name", "part"), WRONG, ids=named)
def test_a_part_of_another_kind(name, part):
    with pytest.raises(ftwt.FtwtError, match=f"Pruning: {name}=.* is no {name}, which has") as told:
        ftwt.Pruning(**{name: part})
    assert "\n" not in str(told.value)


NO_LOSSES = [
    gates.Hard(),
    targets.TopK(0.5),
    gates.PooledLinear(),
    nn.ReLU(),
    losses.GateBCE,
    0.5,
    "loss",
    nn.CrossEntropyLoss(),
    F.cross_entropy,
    lambda trace: 0,
]


@pytest.mark.parametrize("part", NO_LOSSES, ids=named)
def test_what_is_no_loss(part):
    for write in (lambda: losses.of(part), lambda: losses.CrossEntropy() + part):
        with pytest.raises(ftwt.FtwtError, match=r"^Objective: .*; give ") as told:
            write()
        assert "\n" not in str(told.value)
    start = ftwt.Pipeline(chain(), example=torch.zeros(1, 3, 8, 8)).gate(gates.PooledLinear())
    refused(r"Pipeline.loss: got|Objective:", start.target(targets.TopK(0.5)).loss, part)


def size(trace, labels):
    return trace.output.square().mean()


@dataclass(frozen=True)
class Far:
    """A loss as a value, with nothing but a call."""

    scale: float = 1.0

    def __call__(self, trace, labels):
        return self.scale * trace.output.abs().mean()


def traced():
    images = torch.randn(2, 3, 8, 8)
    return ftwt.attach(chain(), ftwt.Pruning(), example=images[:1]).trace(images)


LABELS = torch.tensor([0, 2])


@pytest.mark.parametrize("own", [size, Far(2.0)], ids=["function", "value"])
def test_a_loss_of_ones_own_adds_on_either_side_and_scales(own):
    trace = traced()
    entropy, mine = losses.CrossEntropy()(trace, LABELS), own(trace, LABELS)
    for objective, weight in (
        (losses.CrossEntropy() + own, 1.0),
        (own + losses.CrossEntropy(), 1.0),
        (losses.CrossEntropy() + 0.5 * losses.of(own), 0.5),
        (own + 1.0 * losses.CrossEntropy(), 1.0),
        (losses.of(own) * 0.5 + losses.CrossEntropy(), 0.5),
        (sum([losses.CrossEntropy(), losses.of(own)]), 1.0),
    ):
        report = objective(trace, LABELS)
        assert torch.allclose(report.total, entropy + weight * mine)
        assert len(report.parts) == 2


def test_parts_of_one_name_are_numbered_and_none_is_called_as_the_sum_is():
    def loss(trace, labels):
        return trace.output.mean()

    both = losses.GateBCE() + 2 * losses.GateBCE(balance="site") + loss + losses.of(loss, "mean")
    assert both.names == ("GateBCE", "GateBCE 2", "loss 2", "mean")
    twice = losses.CrossEntropy() + losses.CrossEntropy(0.1) + losses.CrossEntropy(0.2)
    report = twice(traced(), LABELS)
    assert list(report.parts) == ["CrossEntropy", "CrossEntropy 2", "CrossEntropy 3"]
    assert torch.allclose(report.total, torch.stack(list(report.parts.values())).sum())


def test_a_loss_that_is_no_number():
    with pytest.raises(ftwt.FtwtError, match=r"loss each answers of shape \(2,\)"):
        losses.of(lambda trace, labels: trace.output.mean(1), "each")(traced(), LABELS)
    refused("loss function answers 3", losses.of(lambda trace, labels: 3), traced(), LABELS)


@dataclass(frozen=True)
class Half:
    """A target with the named method alone."""

    def keep(self, features):
        mask = torch.zeros(features.shape[:2], dtype=torch.bool)
        mask[:, ::2] = True
        return mask


@dataclass(frozen=True)
class Below:
    """An estimator with the named method alone, which thresholds at one."""

    def weights(self, logits, *, training=False):
        return (logits > 1).float()


@dataclass(frozen=True)
class Mean:
    """An affine gate: what it pools, and its weights, are all that kernels need."""

    def build(self, site):
        return _Mean(site)

    def macs(self, live, site):
        return live * site.out_channels


class _Mean(nn.Module):
    def __init__(self, site):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(site.out_channels, site.in_channels))
        self.bias = nn.Parameter(torch.zeros(site.out_channels))

    def form(self):
        return gates.AffineForm("mean", "layer", self.weight, self.bias)

    def forward(self, inputs):
        return self.form()(inputs)


def test_named_methods_are_all_that_parts_need():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    pruning = ftwt.Pruning(Mean(), Half(), estimator=Below())
    model = ftwt.attach(chain(), pruning, example=images[:1]).eval()
    trace = model.trace(images)
    for site in trace.sites.values():
        assert torch.equal(site.target, Half().keep(site.mask))
        assert torch.equal(site.mask, site.logits > 1)
    assert torch.allclose(ftwt.runtime.skip(model)(images), model(images), atol=1e-5)
    oracle = ftwt.attach(chain(), ftwt.Pruning(gates.Oracle(), Half()), example=images[:1])
    assert all(torch.equal(site.mask, site.target) for site in oracle.trace(images).sites.values())


def test_an_affine_gate_of_ones_own_runs_in_the_same_native_segment():
    if not available():
        pytest.skip("no native kernels here")
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    for gate in (Mean(), gates.PooledLinear()):
        model = ftwt.attach(chain(), ftwt.Pruning(gate), example=images[:1]).eval()
        fast = ftwt.runtime.skip(model)
        fast(images)
        (ready,) = fast._ready.values()
        assert [piece.backend.name for piece in ready.pieces] == ["native"]
        assert torch.allclose(fast(images), model(images), atol=1e-5)
        assert not fast.audit(images).differing


def test_an_affine_gate_of_ones_own_is_narrowed_to_the_rows_that_are_left():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    model = ftwt.attach(chain(), ftwt.Pruning(Mean()), example=images[:1]).eval()
    kept = {}
    with torch.no_grad():
        for name, site in zip(model.sites, model.gates.values(), strict=True):
            kept[name] = torch.arange(site.site.out_channels) % 3 > 0
            site.gate.bias[~kept[name]] = -1e3
    small = ftwt.slicing.narrow(model, kept)
    assert torch.allclose(small(images), model(images), atol=1e-5)
    assert small.gate_macs < model.gate_macs
    rows = [len(site.gate.gate.weight) for site in small.gates.values()]
    assert rows == [int(mask.sum()) for mask in kept.values()]
