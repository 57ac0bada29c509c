"""Laws of removing filters: the same decisions and outputs, for the MACs that were counted."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, reject
from torch import nn

import ftwt
from ftwt import FtwtError, analysis, gates
from ftwt.slicing import narrow
from tests.laws.networks import backbone, examples, images, networks, random_masks
from tests.laws.test_slicing_forms import (
    ChangedInPlace,
    Functional,
    Hooked,
    Sizes,
    Subclassed,
    WeightRead,
    Written,
)
from tests.small import refused

REFUSED = (
    "does not stay one convolution",
    "is called more than once",
    "cannot be cut together",
)
REFUSED_KINDS = {
    Functional: "cannot be cut together",
    ChangedInPlace: "cannot be cut together",
    Written: "cannot be cut together",
    Subclassed: "cannot be cut together",
    Hooked: "does not stay one convolution",
}
GATES = {
    "linear": gates.PooledLinear(),
    "layer norm": gates.PooledLinear("mean", "layer"),
    "plain": gates.PooledLinear(normalize="none"),
    "low rank": gates.Bottleneck(3),
    "by cost": gates.ByCost(gates.PooledLinear(), gates.Bottleneck(2)),
}


class Halves(nn.Module):
    """A gate that the library does not know: filters answer to the mean of everything."""

    def __init__(self, site):
        super().__init__()
        self.slopes = nn.Parameter(torch.randn(site.out_channels))

    def forward(self, inputs):
        return inputs.flatten(1).mean(1, keepdim=True) * self.slopes


class Stranger:
    def build(self, site):
        return Halves(site)

    def macs(self, live, site):
        return live


def whole_and_kept(network, batch, gate, seed, share, where=lambda *_: True):
    """A gated network, and which filters ran for any image of the batch."""
    torch.manual_seed(seed)
    model = ftwt.attach(network, ftwt.Pruning(gate), example=batch[:1], where=where).eval()
    never = {name: ~mask[0] for name, mask in random_masks(model, 1, seed, share).items()}
    with torch.no_grad():
        for one in model.gates.values():
            bias = getattr(one.gate, "linear", None) or getattr(one.gate, "layers", [None])[-1]
            if bias is not None:
                bias.bias[never[one.site.name]] = -1000.0
        trace = model.trace(batch)
    return model, trace, {name: mask.any(0) for name, mask in trace.masks.items()}


def narrowed(model, kept):
    try:
        return narrow(model, kept)
    except FtwtError as error:
        # What is refused is named; nothing else may be.
        if not any(reason in str(error) for reason in REFUSED):
            raise
        reject()


@pytest.mark.parametrize("gate", [*GATES.values(), Stranger()], ids=[*GATES, "a stranger"])
@examples(0.2)
@given(networks(), images(), st.integers(0, 2**16), st.sampled_from([-1.0, 0.1, 0.5, 0.9]))
def test_without_filters_that_never_ran_all_stays_the_same(gate, network, batch, seed, share):
    model, trace, kept = whole_and_kept(network, batch, gate, seed, share)
    small = narrowed(model, kept)
    assert small.sites == model.sites
    with torch.no_grad():
        answer = small.trace(batch)
    assert torch.allclose(
        answer.output, trace.output, rtol=1e-4, atol=1e-5 * float(trace.output.abs().max())
    )
    for name, part in small.pruning.gate.parts.items():
        index = torch.tensor(part.outputs)
        assert torch.equal(answer.masks[name], trace.masks[name][:, index])
        # Every filter that ran is there.
        assert int(trace.masks[name].sum()) == int(answer.masks[name].sum())
    layers, own = model.anatomy.plan.exact(trace.masks), small.anatomy.plan.exact(answer.masks)
    # What is known of live channels may get better, as nothing is done in place any more.
    assert all(bool((own[name] <= macs).all()) for name, macs in layers.items())
    assert small.dense_macs <= model.dense_macs


@examples(0.3)
@given(networks(), images(), st.integers(0, 2**16))
def test_a_narrowed_network_runs_by_what_is_counted_for_it(network, batch, seed):
    model, trace, kept = whole_and_kept(network, batch, gates.PooledLinear(), seed, 0.5)
    with torch.no_grad():
        answer = ftwt.runtime.skip(narrowed(model, kept))(batch)
    assert torch.allclose(
        answer, trace.output, rtol=1e-4, atol=1e-4 * float(trace.output.abs().max())
    )


@examples(0.2)
@given(networks(), images(), st.integers(0, 2**16))
def test_a_narrowed_network_is_saved_and_loaded(tmp_path_factory, network, batch, seed):
    model, _, kept = whole_and_kept(network, batch, gates.PooledLinear(), seed, 0.5)
    small = narrowed(model, kept)
    file = tmp_path_factory.mktemp("narrowed") / "slim.safetensors"
    ftwt.save(small, file, ftwt.Card(None, 5))
    again, _ = ftwt.load(file, network)
    with torch.no_grad():
        assert torch.equal(again(batch), small.eval()(batch))
    assert again.pruning == small.pruning


@pytest.mark.parametrize(
    "name",
    ["cifar10-resnet20", "cifar10-mobilenet_v1-x0.25", "cifar10-vgg16_bn", "torchvision:resnet18",
     "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5"],
)  # fmt: skip
def test_backbones(name):
    network, batch = backbone(name)
    model, trace, kept = whole_and_kept(network, batch, gates.PooledLinear(), 0, 0.6, where=None)
    small = narrow(model, kept)
    with torch.no_grad():
        answer, skipped = small.trace(batch), ftwt.runtime.skip(small)(batch)
    size = trace.output.abs().max()
    assert (answer.output - trace.output).abs().max() <= 1e-5 * size
    assert (skipped - trace.output).abs().max() <= 1e-4 * size
    layers, own = model.anatomy.plan.exact(trace.masks), small.anatomy.plan.exact(answer.masks)
    assert all(torch.equal(own[name], macs) for name, macs in layers.items())
    weights, fewer = (sum(p.numel() for p in one.backbone_parameters()) for one in (model, small))
    assert fewer < 0.8 * weights


def test_a_narrowed_network_trains():
    model, _, kept = whole_and_kept(
        ftwt.backbones.resnet8(), torch.randn(4, 3, 32, 32), gates.PooledLinear(), 0, 0.5
    )
    small = narrow(model, kept).train()
    trace = small.trace(torch.randn(4, 3, 32, 32))
    objective = ftwt.losses.CrossEntropy() + ftwt.losses.GateBCE()
    objective(trace, torch.tensor([0, 1, 2, 3])).total.backward()
    assert all(one.grad is not None for one in small.gate_parameters())


def test_slim_measures_that_nothing_changed():
    model, _, _ = whole_and_kept(
        ftwt.backbones.resnet8(), torch.randn(4, 3, 32, 32), gates.PooledLinear(), 0, 0.5
    )
    loader = [(torch.randn(5, 3, 32, 32), torch.zeros(5).long()) for _ in range(3)]
    small, removal, agreement = ftwt.slim(model, loader, limit=12)
    assert agreement.images == agreement.same_class == 12
    assert agreement.largest_difference < 1e-5
    assert removal.filters_left < removal.filters
    assert removal.macs_left == small.dense_macs < removal.macs
    twice = analysis.agreement(model, model, loader)
    assert (twice.images, twice.largest_difference) == (15, 0.0)


def test_refusals():
    model, _, kept = whole_and_kept(
        ftwt.backbones.resnet8(), torch.randn(2, 3, 32, 32), gates.PooledLinear(), 0, 0.5
    )
    with pytest.raises(FtwtError, match="no mask for site 'conv1'; give one for each site"):
        narrow(model, {name: mask for name, mask in kept.items() if name != "conv1"})
    with pytest.raises(FtwtError, match="removed from this network before; start from the whole"):
        narrow(narrow(model, kept), kept)
    oracle = ftwt.attach(
        ftwt.backbones.resnet8(), ftwt.Pruning(gates.Oracle()), example=torch.zeros(1, 3, 32, 32)
    )
    refused("an oracle has no gates to keep", narrow, oracle, kept)
    refused("gave no images", ftwt.slim, model, [])


def odd(kind):
    batch = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return whole_and_kept(kind().eval(), batch, gates.PooledLinear(), 0, 0.6), batch


@pytest.mark.parametrize("kind", [WeightRead, Sizes])
def test_what_is_written_in_other_ways(kind):
    (model, trace, kept), batch = odd(kind)
    with torch.no_grad():
        answer = narrow(model, kept)(batch)
    assert torch.allclose(answer, trace.output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", REFUSED_KINDS)
def test_what_cannot_be_narrowed_is_named(kind):
    (model, _, kept), _ = odd(kind)
    refused(f"narrow: '{model.sites[0]}' .*{REFUSED_KINDS[kind]}", narrow, model, kept)


class Gain(nn.Module):
    """Branches on values, so nothing can look into it."""

    def forward(self, x):
        return 1.5 * x if x.sum() > 0 else x


def test_modules_that_were_not_looked_into_stay_so():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), Gain(), nn.Linear(8, 4),
    )  # fmt: skip
    images = torch.randn(4, 3, 12, 12)
    model = ftwt.attach(network, ftwt.Pruning(), example=images[:1], leaves=(Gain,)).eval()
    small, _, agreement = ftwt.slim(model, [(images, torch.zeros(4, dtype=torch.long))])
    assert agreement.largest_difference < 1e-5
    assert isinstance(small.get_submodule("6"), Gain)
