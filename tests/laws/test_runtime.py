"""Skipping gives what the masked network gives, and executes what is counted."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch.utils.flop_counter import FlopCounterMode

import ftwt
from ftwt import gates, runtime
from ftwt.runtime import native
from ftwt.runtime.placement import Placed
from tests.laws.components import TRAINABLE_GATES
from tests.laws.networks import examples, images, networks, random_masks

BACKENDS = ("channels-last", "dense", "torch", *(("native",) if native.available() else ()))
SKIPPING = BACKENDS[2:]
SHARES = (-1.0, 0.3, 0.7, 1.0)
seeds = st.integers(0, 2**16)


def attached(network, example, gate, **options):
    pruning = ftwt.Pruning(gate=gate)
    return ftwt.attach(
        network, pruning, example=example[:1], where=lambda *_: True, **options
    ).eval()


def with_masks(network, batch, seed, share):
    """Gates with random masks, none, some or all filters: of each sample's own, or of all."""
    plain = attached(network, batch, gates.Fixed({}), check=False)
    masks = random_masks(plain, len(batch), seed, share)
    known = {
        name: mask[0] if seed >> place & 1 else mask
        for place, (name, mask) in enumerate(masks.items())
    }
    return attached(network, batch, gates.Fixed(known))


def close(one, two):
    """Equal to 1e-4 of the largest output."""
    return (one - two).abs().max() <= 1e-4 * two.abs().max() + 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
@examples(0.3)
@given(networks(), images(most=9), seeds, st.sampled_from(SHARES))
def test_outputs_are_the_masked_networks(backend, network, batch, seed, share):
    model = with_masks(network, batch, seed, share)
    fast = runtime.skip(model, backend=backend)
    with torch.no_grad():
        expected = model(batch)
    assert close(fast(batch), expected)
    # The same again: nothing of the first call stays behind.
    assert torch.equal(fast(batch), fast(batch.clone()))


@pytest.mark.parametrize("backend", SKIPPING)
@examples(0.4)
@given(networks(), images(most=9), seeds, st.sampled_from(SHARES))
def test_what_is_executed_is_what_is_counted(backend, network, batch, seed, share):
    model = with_masks(network, batch, seed, share)
    audit = runtime.skip(model, backend=backend).audit(batch)
    trace = model.trace(batch, targets=False)
    assert audit.dense == ()
    assert audit.differing == ()
    assert torch.equal(audit.macs, trace.macs)
    assert torch.equal(audit.counted_macs, trace.macs)


@examples(0.3)
@given(networks(), images(most=5), seeds, st.sampled_from(SHARES))
def test_torchs_own_counter_sees_the_same(network, batch, seed, share):
    fast = runtime.skip(with_masks(network, batch, seed, share), backend="torch")
    fast(batch)
    with FlopCounterMode(display=False) as counter:
        fast(batch)
    assert counter.get_total_flops() // 2 == fast.audit(batch).macs.sum()


@pytest.mark.parametrize("backend", SKIPPING)
@pytest.mark.parametrize("gate", TRAINABLE_GATES, ids=repr)
@examples(0.15)
@given(networks(most=3), images(most=4))
def test_gates_decide_the_same(gate, backend, network, batch):
    model = attached(network, batch, gate)
    with torch.no_grad():
        trace = model.trace(batch, targets=False)
    # A logit next to zero may round to either side; then masks, and all after, may differ.
    assume(all(bool((site.logits.abs() > 1e-5).all()) for site in trace.sites.values()))
    fast = runtime.skip(model, backend=backend)
    audit = fast.audit(batch)
    assert audit.differing == ()
    assert close(fast(batch), trace.output)
    assert torch.equal(audit.macs, trace.macs)


@examples(0.4)
@given(networks(), images(most=5), seeds, st.sampled_from(SHARES), st.randoms())
def test_any_mix_of_back_ends_does_the_same(network, batch, seed, share, random):
    model = with_masks(network, batch, seed, share)
    fast = runtime.skip(model)
    rows = tuple(
        replace(row, backend=random.choice(BACKENDS))
        for row in runtime.explain(fast, len(batch)).rows
    )
    placed = Placed(len(batch), (tuple(batch.shape[1:]),), rows)
    fast.use(fast.plan.with_placed(placed))
    with torch.no_grad():
        assert close(fast(batch), model(batch))
    audit = fast.audit(batch)
    assert set(audit.differing) <= set(audit.dense)


@examples(0.3)
@given(networks(), images(most=3), seeds)
def test_dense_lists_what_it_runs_dense(network, batch, seed):
    model = with_masks(network, batch, seed, 0.5)
    audit = runtime.skip(model, backend="dense").audit(batch)
    assert set(audit.differing) <= set(audit.dense)
    assert (audit.macs == model.dense_macs).all()


@examples(0.3)
@given(networks(), images(most=3), seeds, st.sampled_from(BACKENDS))
def test_memory_layout_of_the_input_does_not_matter(network, batch, seed, backend):
    fast = runtime.skip(with_masks(network, batch, seed, 0.5), backend=backend)
    expected = fast(batch)
    before = batch.clone()
    assert close(fast(batch.to(memory_format=torch.channels_last)), expected)
    assert close(fast(batch.transpose(2, 3).contiguous().transpose(2, 3)), expected)
    assert torch.equal(batch, before)
