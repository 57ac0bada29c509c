"""Live channels are sound: what the analysis calls dead is exactly zero, at every node."""

import hypothesis.strategies as st
import torch
from hypothesis import given

import ftwt
from ftwt import gates
from tests.laws.networks import examples, images, networks, random_masks
from tests.laws.soundness import check


@examples(0.5)
@given(networks(), images(), st.integers(0, 2**16), st.sampled_from([0.0, 0.3, 0.7]))
def test_dead_channels_are_zero_at_every_node(network, batch, seed, share):
    plain = ftwt.attach(
        network,
        ftwt.Pruning(gate=gates.Fixed({})),
        example=batch[:1],
        where=lambda *_: True,
        check=False,
    )
    masks = random_masks(plain, len(batch), seed, share)
    fixed = ftwt.Pruning(gate=gates.Fixed(masks))
    model = ftwt.attach(network, fixed, example=batch[:1], where=lambda *_: True).eval()
    trace = model.trace(batch)
    assert all(torch.equal(site.mask, masks[name]) for name, site in trace.sites.items())
    check(model, batch, masks)


@examples(0.25)
@given(networks(), images())
def test_gates_do_not_change_the_network_that_was_given(network, batch):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = ftwt.attach(network, ftwt.Pruning(), example=batch[:1], where=lambda *_: True)
    model.train()
    trace = model.trace(batch)
    trace.output.sum().backward()
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    names = {name for name in model.state_dict() if not name.startswith("gates.")}
    assert names == set(before)
    model.load_state_dict(before, strict=False)
