"""Gates that take over the mask of a depthwise site's input."""

from itertools import pairwise

import pytest
import torch

import ftwt
from ftwt import FtwtError, backbones, gates, losses, runtime, targets
from ftwt.slicing import narrow
from tests.small import refused

EXAMPLE = torch.zeros(1, 3, 32, 32)
GATE = gates.Follow(gates.PooledLinear(normalize="layer"))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = backbones.mobilenet_v1(width=0.25).eval()
    return ftwt.attach(network, ftwt.Pruning(GATE, targets.TopK(0.5)), example=EXAMPLE)


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def pairs(model):
    """Each depthwise site with the site before it."""
    sites = model.anatomy.sites
    found = [(one.name, before.name) for before, one in pairwise(sites) if one.module.groups > 1]
    assert len(found) == 13
    return found


def test_depthwise_sites_run_what_comes_in(model, images):
    trace = model.trace(images)
    for own, before in pairs(model):
        assert torch.equal(trace.masks[own], trace.masks[before])
        assert torch.equal(trace.sites[own].target, trace.masks[own])
        assert not list(model.gates[own.replace(".", "-")].parameters())
    assert any(not mask.all() for mask in trace.masks.values())
    assert torch.equal(model(images), trace.output)
    # Whatever the thresholds, also of those sites themselves.
    shifted = model.with_thresholds(dict.fromkeys(model.sites, 0.3))
    masks = shifted.trace(images).masks
    assert all(torch.equal(masks[own], masks[before]) for own, before in pairs(model))
    assert torch.equal(shifted(images), shifted.trace(images).output)


def test_they_cost_nothing_and_their_gates_none(model, images):
    full = ftwt.attach(model.anatomy.traced.root, ftwt.Pruning(GATE.gate), example=EXAMPLE)
    own = sum(gate.site.in_channels * gate.site.out_channels for gate in model.gates.values()
              if not gate.site.depthwise)  # fmt: skip
    assert model.gate_macs == own < full.gate_macs


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_skipping_runs_what_was_counted(model, images, backend):
    fast = runtime.skip(model, backend=backend)
    torch.testing.assert_close(fast(images), model(images), rtol=1e-4, atol=1e-4)
    audit = fast.audit(images)
    assert torch.equal(audit.macs, model.trace(images).macs)
    shifted = model.with_thresholds(dict.fromkeys(model.sites, 0.3))
    torch.testing.assert_close(
        runtime.skip(shifted, backend=backend)(images), shifted(images), rtol=1e-4, atol=1e-4
    )


def test_a_narrowed_network_follows_too(model, images, tmp_path):
    kept = {name: mask.any(0) for name, mask in model.trace(images).masks.items()}
    small = narrow(model, kept)
    torch.testing.assert_close(small(images), model(images), rtol=1e-4, atol=1e-4)
    # Beside its gates, which have fewer filters to decide.
    costs = [
        sum(one.anatomy.plan.exact(one.trace(images).masks).values()) for one in (small, model)
    ]
    assert torch.equal(*costs)
    for one in (model, small):
        ftwt.save(one, tmp_path / "one.safetensors", ftwt.Card("cifar10-mobilenet_v1-x0.25", 10))
        again, _ = ftwt.load(tmp_path / "one.safetensors")
        assert again.pruning == one.pruning
        torch.testing.assert_close(again(images), one(images))
        torch.testing.assert_close(runtime.skip(again)(images), one(images), rtol=1e-4, atol=1e-4)


def test_gates_before_them_learn(model, images):
    trace = model.trace(images)
    losses.GateBCE()(trace).backward()
    graded = {name for name, one in model.gates.named_parameters() if one.grad is not None}
    assert graded == dict(model.gates.named_parameters()).keys()
    model.zero_grad()


def test_other_sites_need_a_gate():
    for gate in (gates.Oracle(), gates.PooledLinear):
        refused("is no gate that predicts", gates.Follow, gate)
    network = backbones.mobilenet_v1(width=0.25)
    with pytest.raises(FtwtError, match="is not depthwise, so its filters have to be decided"):
        ftwt.attach(network, ftwt.Pruning(gates.Follow()), example=EXAMPLE)
    # Alone where all sites are depthwise, with nothing before them that is decided.
    model = ftwt.attach(
        network.eval(), ftwt.Pruning(gates.Follow()), example=EXAMPLE,
        where=lambda name, module: module is not None and module.groups > 1,
    )  # fmt: skip
    images = torch.randn(2, 3, 32, 32)
    assert all(mask.all() for mask in model.trace(images).masks.values())
    torch.testing.assert_close(model(images), network(images))
    refused("tells none from features", next(iter(model.gates.values())).gate, images)
