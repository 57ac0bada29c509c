"""Gates that read means and deviations, and normalise over images."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ftwt
from ftwt import FtwtError, gates, training
from ftwt.gates.forms import form_of
from ftwt.gates.pooling import summarize
from ftwt.graph.sites import SiteShape
from ftwt.training.phases import enter

SITE = SiteShape("site", 5, 7, 10**6)
SPECS = (
    gates.PooledLinear(pool="mean_std", normalize="batch"),
    gates.PooledLinear(pool="mean", normalize="batch"),
    gates.Bottleneck(3, pool="mean_std", normalize="batch"),
)
every_spec = pytest.mark.parametrize("spec", SPECS, ids=repr)


def inputs(seed, batch=6):
    return torch.randn(batch, 5, 4, 3, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 99))
def test_mean_and_deviation_of_each_channel(seed):
    x = inputs(seed)
    found = summarize(x, "mean_std", "none")
    wanted = torch.cat([x.mean((2, 3)), x.std((2, 3), correction=0)], 1)
    torch.testing.assert_close(found, wanted)
    # A channel that is zero gives two zeros, as kernels take it; one without space no deviation.
    x[:, 1] = 0
    assert not summarize(x, "mean_std", "none")[:, [1, 6]].any()
    flat = x[:, :, 0, 0]
    assert torch.equal(summarize(flat, "mean_std", "none"), torch.cat([flat, 0 * flat], 1))


def test_a_constant_channel_has_a_gradient():
    x = torch.ones(2, 5, 3, 3, requires_grad=True)
    summarize(x, "mean_std", "none").sum().backward()
    assert x.grad.isfinite().all()


@every_spec
@given(seed=st.integers(0, 99))
def test_in_training_what_all_images_share_does_not_matter(spec, seed):
    gate = spec.build(SITE).train()
    x = inputs(seed)
    shift, scale = torch.randn(5, 1, 1), 1 + torch.rand(5, 1, 1)
    torch.testing.assert_close(gate(x), gate(scale * x + shift), rtol=1e-3, atol=1e-3)


@every_spec
def test_in_evaluation_the_norm_is_part_of_the_weights(spec):
    gate = spec.build(SITE).train()
    for seed in range(30):
        gate(3 * inputs(seed) + 2)
    gate.eval()
    x = 3 * inputs(0) + 2
    first, last = (gate.linear, nn.Identity()) if hasattr(gate, "linear") else gate.layers[::2]
    hidden = first(gate.norm(summarize(x, spec.pool, "none")))
    wanted = hidden if hasattr(gate, "linear") else last(hidden.relu())
    torch.testing.assert_close(gate(x), wanted, rtol=1e-4, atol=1e-4)
    assert form_of(gate).normalize == "none"
    one = gate(x[:1])
    torch.testing.assert_close(one, gate(x)[:1])


def test_statistics_stay_where_the_gates_are_frozen():
    spec = ftwt.Pruning(SPECS[0])
    model = ftwt.attach(ftwt.backbones.resnet8(), spec, example=torch.zeros(1, 3, 32, 32))
    images = torch.randn(4, 3, 32, 32)

    def passed(train):
        enter(training.Phase("one", 1, train=train), model)
        norms = {
            name: one.running_mean.clone()
            for name, one in model.named_modules()
            if isinstance(one, nn.modules.batchnorm._BatchNorm)
        }
        model.trace(images)
        moved = {
            name.startswith("gates.")
            for name, before in norms.items()
            if not torch.equal(before, model.get_submodule(name).running_mean)
        }
        assert {name.startswith("gates.") for name in norms} == {True, False}
        return moved

    assert passed("all") == {True, False}
    assert passed("gates") == {True}
    assert passed("backbone") == {False}
    # Frozen gates answer as they do in evaluation.
    masks = model.trace(images).masks["conv1"]
    assert torch.equal(masks, model.eval().trace(images).masks["conv1"])


def test_one_image_has_no_deviation():
    gate = SPECS[0].build(SITE).train()
    with pytest.raises(FtwtError, match="trained on a batch of one image"):
        gate(inputs(0, batch=1))


def test_two_values_cost_twice():
    live = torch.tensor([0, 2, 5])
    assert SPECS[0].macs(live, SITE).tolist() == [0, 28, 70]
    assert SPECS[1].macs(live, SITE).tolist() == [0, 14, 35]
    assert SPECS[2].macs(live, SITE).tolist() == [21, 21 + 12, 21 + 30]
