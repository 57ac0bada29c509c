"""Laws of estimating and solving: one pass counts what separate oracles do."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, reject

import ftwt
from ftwt import FtwtError, gates, targets
from ftwt.budget.families import families
from ftwt.macs import count_grid
from tests.laws.components import GATES, TARGETS
from tests.laws.networks import examples, images, networks

seeds = st.integers(0, 2**16)
amounts = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4, unique=True).map(sorted)


def attached(network, batch, gate=None):
    pruning = ftwt.Pruning(gate or gates.PooledLinear(), targets.HeatmapMass(0.8))
    return ftwt.attach(network, pruning, example=batch[:1], where=lambda *_: True).eval()


def labelled(batch):
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in batch.split(2)]


def separate_oracle_masks(network, batch, rule):
    """Masks of an oracle that is told the plain network's features, by an evaluation of its own."""
    pruning = ftwt.Pruning(gates.Oracle(), rule, target_source="dense")
    oracle = ftwt.attach(network, pruning, example=batch[:1], where=lambda *_: True).eval()
    with torch.no_grad():
        return oracle.trace(batch).masks


def mean(values) -> float:
    return values.double().mean().item()


@examples(0.15)
@given(networks(), images(), amounts)
def test_one_pass_equals_separate_oracles(network, batch, masses):
    model = attached(network, batch)
    rules = [targets.HeatmapMass(mass) for mass in masses]
    rules += [targets.TopK(fraction, score="l2") for fraction in masses]
    rules += [targets.HeatmapMass(masses[-1], min_channels=3), targets.Active()]
    found = ftwt.estimate(model, labelled(batch), rules)
    costs = model.anatomy.plan
    for rule, row in zip(rules, found.rows, strict=True):
        assert row.rule == rule
        masks = separate_oracle_masks(network, batch, rule)
        layers, own = costs.exact(masks), costs.gates(masks)
        totals = torch.stack(list(layers.values())).sum(0).double()
        assert row.mean_macs == pytest.approx(mean(totals), rel=1e-9)
        assert row.std_macs == pytest.approx(totals.std(correction=0).item(), abs=1e-3)
        assert row.mean_paper_macs == pytest.approx(mean(costs.paper_total(masks)), rel=1e-9)
        both = torch.stack([*layers.values(), *own.values()]).sum(0)
        assert row.mean_macs + row.mean_gate_macs == pytest.approx(mean(both), rel=1e-9)
        for layer in row.layers:
            assert layer.mean_macs == pytest.approx(mean(layers[layer.name]), rel=1e-9)
        assert sum(layer.mean_macs for layer in row.layers) == pytest.approx(row.mean_macs)


@examples(0.15)
@given(networks(most=2), images(), amounts)
def test_applied_masks_are_an_attached_oracles(network, batch, masses):
    model = attached(network, batch)
    rules = [targets.HeatmapMass(mass) for mass in masses[:2]]
    found = ftwt.estimate(model, labelled(batch), rules, sequential=True)
    for rule, row in zip(rules, found.rows, strict=True):
        pruning = ftwt.Pruning(gates.Oracle(), rule)
        oracle = ftwt.attach(network, pruning, example=batch[:1], where=lambda *_: True)
        result = ftwt.training.evaluate(oracle, labelled(batch))
        assert row.applied.reduction_exact == pytest.approx(result.reduction_exact, abs=1e-9)
        assert row.applied.reduction_paper == pytest.approx(result.reduction_paper, abs=1e-9)
        assert row.applied.accuracy == result.accuracy
        difference = row.reduction_exact - result.reduction_exact
        assert row.applied.difference == pytest.approx(difference, abs=1e-9)


@examples(0.2)
@given(networks(), images(), amounts)
def test_estimates_fall_as_mass_rises(network, batch, masses):
    model = attached(network, batch)
    for rules in (
        [targets.HeatmapMass(mass) for mass in masses],
        [targets.HeatmapMass(mass, boundary="reach", score="mean") for mass in masses],
        [targets.TopK(fraction) for fraction in masses],
    ):
        rows = ftwt.estimate(model, labelled(batch), rules).rows
        for name in ("reduction_exact", "reduction_with_gates", "reduction_paper"):
            falling = [getattr(row, name) for row in rows]
            assert falling == sorted(falling, reverse=True)
        for row in rows:
            assert 0 <= row.reduction_exact <= 1
            assert row.reduction_with_gates <= row.reduction_exact


@pytest.mark.parametrize("gate", GATES, ids=repr)
@examples(0.1)
@given(networks(most=2), images(), seeds, st.integers(1, 5))
def test_a_grid_counts_each_setting_as_its_masks(gate, network, batch, seed, top):
    model = attached(network, batch, gate)
    generator = torch.Generator().manual_seed(seed)
    strengths = {
        site.site.name: torch.randint(
            top + 1, (len(batch), site.site.out_channels), generator=generator, dtype=torch.int16
        )
        for site in model.gates.values()
    }
    costs = model.anatomy.plan
    grid = count_grid(costs, strengths, top)
    for setting in range(top):
        masks = {name: one >= top - setting for name, one in strengths.items()}
        for found, counted in (
            (grid.layers, costs.exact(masks)),
            (grid.gates, costs.gates(masks)),
            (grid.paper, costs.paper(masks)),
        ):
            assert found.keys() == counted.keys()
            for name, macs in counted.items():
                assert torch.equal(found[name][:, setting], macs), name


@pytest.mark.parametrize("rule", TARGETS, ids=repr)
@given(seeds, st.integers(1, 5), st.integers(1, 9))
def test_strengths_are_the_rules_masks(rule, seed, batch, channels):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels, 3, 3, generator=generator).relu()
    (family,) = families([rule])
    assert torch.equal(family.strengths(features, {}) > 0, rule(features))


@examples(0.1)
@given(networks(most=2), seeds, st.floats(0, 0.99), st.booleans())
def test_solving_twice_is_solving_once_and_what_it_says_holds(network, seed, reduction, per_layer):
    batch = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    model = attached(network, batch)
    ask = {"reduction": reduction, "per_layer": per_layer}
    most = ftwt.estimate(model, labelled(batch), [targets.HeatmapMass(1e-5)]).rows[0]
    if reduction > most.reduction_with_gates:
        with pytest.raises(FtwtError, match="out of reach, the largest is"):
            ftwt.solve(model, labelled(batch), **ask)
        return
    try:
        first = ftwt.solve(model, labelled(batch), **ask)
    except FtwtError as error:
        # With earlier masks applied the largest reduction can be lower than one pass says.
        if "out of reach, the largest is" not in str(error):
            raise
        reject()
    solved = ftwt.attach(network, first.pruning, example=batch[:1], where=lambda *_: True).eval()
    again = ftwt.solve(solved, labelled(batch), **ask)
    assert again == first
    oracle = ftwt.attach(
        network,
        ftwt.Pruning(gates.Oracle(), first.target),
        example=batch[:1],
        where=lambda *_: True,
    ).eval()
    with torch.no_grad():
        masks = oracle.trace(batch).masks
    counted = 1 - mean(model.anatomy.plan.total(masks)) / model.dense_macs
    assert first.predicted == pytest.approx(counted, abs=1e-9)
