"""Laws of counting, over random networks and every gate."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import ftwt
from ftwt import gates
from tests.laws.components import GATES
from tests.laws.networks import examples, images, networks, random_masks, torch_macs

seeds = st.integers(0, 2**16)


def attached(network, example, gate, **options):
    pruning = ftwt.Pruning(gate=gate)
    return ftwt.attach(
        network, pruning, example=example[:1], where=lambda *_: True, **options
    ).eval()


@examples(0.5)
@given(networks(), images())
def test_all_filters_on_is_dense_by_torchs_own_counter(network, batch):
    model = attached(network, batch, gates.Fixed({}))
    trace = model.trace(batch)
    assert model.dense_macs == torch_macs(network, batch)
    assert model.gate_macs == 0
    assert (trace.macs == model.dense_macs).all()
    assert torch.allclose(trace.output, network(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gate", GATES, ids=repr)
@examples(0.15)
@given(networks(most=2), images(), seeds)
def test_gates_count_their_own_macs(gate, network, batch, seed):
    model = attached(network, batch, gate)
    costs = model.anatomy.plan
    ones = {name: torch.ones_like(site.mask) for name, site in model.trace(batch).sites.items()}
    assert (costs.total(ones) == model.dense_macs + model.gate_macs).all()
    # A linear gate costs what torch's counter sees it do.
    counted = sum(
        torch_macs(site.gate, torch.ones(1, costs_of.in_channels, 1, 1))
        for costs_of, site in _gate_modules(model)
        # What takes over its input's mask computes nothing, and has no answer by itself.
        if not getattr(site.gate, "follows", False)
    )
    assert model.gate_macs == counted


def _gate_modules(model):
    by_name = {layer.name: layer for layer in model.anatomy.plan.layers}
    return [(by_name[site.name], model.gates[site.key]) for site in model.anatomy.sites]


@examples(0.3)
@given(networks(), images(), seeds, st.floats(0, 1))
def test_monotone_in_the_masks(network, batch, seed, share):
    model = attached(network, batch, gates.Fixed({}))
    costs = model.anatomy.plan
    masks = random_masks(model, len(batch), seed, share)
    more = {
        name: mask | other
        for (name, mask), other in zip(
            masks.items(), random_masks(model, len(batch), seed + 1, 0.5).values(), strict=True
        )
    }
    assert (costs.total(masks) <= costs.total(more)).all()
    assert (costs.paper_total(masks) <= costs.paper_total(more)).all()
    assert (costs.total(more) <= model.dense_macs).all()


@examples(0.3)
@given(networks(), images(), seeds)
def test_layers_add_up_and_samples_do_not_mix(network, batch, seed):
    model = attached(network, batch, gates.PooledLinear())
    costs = model.anatomy.plan
    masks = random_masks(model, len(batch), seed, 0.5)
    parts = [*costs.exact(masks).values(), *costs.gates(masks).values()]
    assert torch.equal(costs.total(masks), torch.stack(parts).sum(0))
    for sample in range(len(batch)):
        alone = {name: mask[sample : sample + 1] for name, mask in masks.items()}
        assert costs.total(alone).item() == costs.total(masks)[sample]


@examples(0.3)
@given(networks(), images())
def test_no_filter_on_costs_only_what_no_gate_reaches(network, batch):
    model = attached(network, batch, gates.Fixed({}))
    costs = model.anatomy.plan
    none = random_masks(model, len(batch), 0, -1.0)
    assert not any(mask.any() for mask in none.values())
    exact = costs.exact(none)
    assert all((exact[name] == 0).all() for name in none)
    assert (costs.paper_total(none) == 0).all()


@examples(0.3)
@given(networks(), images(), seeds)
def test_relaxed_count_equals_the_exact_one_on_hard_masks(network, batch, seed):
    model = attached(network, batch, gates.PooledLinear())
    costs = model.anatomy.plan
    masks = random_masks(model, len(batch), seed, 0.5)
    weights = {name: mask.float() for name, mask in masks.items()}
    assert torch.allclose(costs.relaxed(weights), costs.total(masks).double())


@examples(0.3)
@given(networks(most=2), images(), seeds)
def test_trace_reports_what_the_plan_counts(network, batch, seed):
    model = attached(network, batch, gates.Random(0.4, seed))
    trace = model.trace(batch)
    masks = {name: site.mask for name, site in trace.sites.items()}
    assert torch.equal(trace.macs, model.anatomy.plan.total(masks))
    rows = ftwt.macs.table(model, trace).rows
    assert sum(row.dense_macs for row in rows) == model.dense_macs
    assert abs(sum(row.macs for row in rows) - trace.macs.double().mean().item()) < 1e-3
