"""Laws of gates: where they start, and which gate a site gets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ftwt
from ftwt import gates
from tests.laws.components import OPEN_GATES
from tests.laws.networks import examples, images, networks
from tests.small import refused

every_open_gate = pytest.mark.parametrize("gate", OPEN_GATES, ids=repr)
sites = st.builds(
    gates.SiteShape, st.just("site"), st.integers(1, 600), st.integers(1, 600),
    st.integers(1, 10**9),
)  # fmt: skip


@every_open_gate
@examples(0.2)
@given(networks(most=2), images())
def test_an_open_gate_starts_as_the_dense_network(gate, network, batch):
    pruning = ftwt.Pruning(gate)
    model = ftwt.attach(network, pruning, example=batch[:1], where=lambda *_: True).eval()
    trace = model.trace(batch)
    assert all(site.mask.all() for site in trace.sites.values())
    assert all((site.logits == gate.open).all() for site in trace.sites.values())
    assert torch.equal(trace.output, network.eval()(batch))


@every_open_gate
def test_an_open_gate_learns(gate):
    batch = torch.randn(4, 3, 32, 32)
    model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(gate), example=batch[:1]).train()
    ftwt.losses.GateBCE()(model.trace(batch)).backward()
    assert all(any(p.grad.any() for p in one.parameters()) for one in model.gates.values())


@given(sites, st.floats(0.001, 1))
def test_by_cost_takes_the_first_gate_where_it_is_cheap(site, share):
    first, second = gates.PooledLinear(), gates.Bottleneck(4)
    spec = gates.ByCost(first, second, share=share)
    cheap = site.in_channels * site.out_channels <= share * site.macs
    assert spec.chosen(site) == (first if cheap else second)
    live = torch.tensor([site.in_channels, 0])
    assert torch.equal(spec.macs(live, site), spec.chosen(site).macs(live, site))
    names = [type(one).__name__ for one in spec.build(site).modules()]
    assert names == [type(one).__name__ for one in spec.chosen(site).build(site).modules()]


def test_by_cost_pays_on_depthwise_networks():
    """The full gates of MobileNetV1 on CIFAR cost 12.8 % of its MACs."""
    network, example = ftwt.backbones.mobilenet_v1(), torch.zeros(1, 3, 32, 32)
    spec = gates.ByCost(gates.PooledLinear(), gates.Bottleneck(8), share=0.05)
    full, chosen = (
        ftwt.attach(network, ftwt.Pruning(gate), example=example)
        for gate in (gates.PooledLinear(), spec)
    )
    assert full.gate_macs / full.dense_macs == pytest.approx(0.128, abs=0.001)
    assert chosen.gate_macs / chosen.dense_macs < 0.03


def test_messages():
    with pytest.raises(ftwt.FtwtError, match="ByCost: share=0 is outside"):
        gates.ByCost(gates.PooledLinear(), gates.Bottleneck(8), share=0)
    with pytest.raises(ftwt.FtwtError, match=r"otherwise=Oracle\(\) cannot be chosen by cost"):
        gates.ByCost(gates.PooledLinear(), gates.Oracle())
    with pytest.raises(ftwt.FtwtError, match=r"gate=.*Bottleneck'> cannot be chosen"):
        gates.ByCost(gates.Bottleneck, gates.Bottleneck(8))
    for kind in (gates.PooledLinear, lambda open: gates.Bottleneck(2, open=open)):
        refused(r"open=-1 is outside .0, inf.; give the logit", kind, open=-1)
    with pytest.raises(ftwt.FtwtError, match="gate is the class PooledLinear; give an instance"):
        ftwt.Pruning(gate=gates.PooledLinear)
    refused("target is the class Active", ftwt.Pruning, target=ftwt.targets.Active)


def test_a_gate_that_answers_nan_is_no_saving():
    batch = torch.randn(2, 3, 32, 32)
    model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(), example=batch[:1]).eval()
    broken = model.gates["layer2-0-conv1"]
    torch.nn.init.constant_(broken.gate.linear.bias, float("nan"))
    assert model(batch).isnan().all()
    trace = model.trace(batch)
    for cost in ("macs", "paper_macs", "masks"):
        refused(r"the gate of 'layer2.0.conv1' answers NaN", getattr, trace, cost)
