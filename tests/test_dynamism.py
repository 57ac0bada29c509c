"""The diagnosis: what is called dynamic depends on the image, and what is not is called static."""

import json

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

import ftwt
from ftwt import analysis, gates
from ftwt.reports.analysis import controls
from tests.small import labelled, refused, resnet8

EXAMPLE = torch.zeros(1, 3, 32, 32)
PIXELS = torch.cat([pixels for pixels, _ in labelled(150, 150)])


def model(gate):
    return ftwt.attach(resnet8(), ftwt.Pruning(gate), example=EXAMPLE).eval()


def taught(network, batch=50, order=None):
    """Images with the network's own answers as labels, so that it is always right."""
    with torch.no_grad():
        labels = network(PIXELS).argmax(1)
    order = torch.arange(len(labels)) if order is None else order(labels)
    return list(zip(PIXELS[order].split(batch), labels[order].split(batch), strict=True))


@pytest.fixture(scope="module")
def looking():
    return model(gates.PooledLinear(normalize="layer"))


@pytest.fixture(scope="module")
def found(looking):
    return analysis.dynamism(looking, taught(looking))


def test_masks_that_depend_on_the_image_are_dynamic(looking, found):
    assert found.accuracy == 1
    assert found.shuffled.accuracy < 0.9
    assert found.verdict.startswith("Dynamic: ")
    assert (found.macs_right, found.macs_wrong) == (pytest.approx(found.macs), None)
    seen = analysis.activity(looking, taught(looking))
    assert found.macs == pytest.approx(seen.mean_macs)
    shares = torch.cat([torch.tensor(one.share_of_images_by_filter) for one in seen.sites])
    assert found.filters_that_depend == int(((shares >= 0.02) & (shares <= 0.98)).sum())
    assert found.deviation_macs == pytest.approx(
        torch.tensor(seen.macs_by_image).double().std(correction=0).item()
    )


def test_the_same_masks_for_all_are_static():
    masks = {name: [True, False] * 8 for name in ("conv1", "layer1.0.conv1")}
    fixed = model(gates.Fixed(masks))
    found = analysis.dynamism(fixed, taught(fixed))
    assert found.verdict.startswith("Static: 0 % of the filters")
    assert found.deviation_macs == 0
    assert found.shuffled.accuracy == found.shuffled_at_cost.accuracy == found.accuracy == 1
    assert found.static.accuracy == 1
    assert found.static.macs == pytest.approx(found.macs)


def test_masks_that_do_not_matter_are_static_in_effect():
    network = resnet8()
    # What is gated is multiplied by nothing later.
    network.layer1[0].bn2.weight.data.zero_()
    pruning = ftwt.Pruning(gates.PooledLinear(normalize="layer"))
    one = ftwt.attach(network, pruning, example=EXAMPLE, where=["layer1.0.conv1"]).eval()
    found = analysis.dynamism(one, taught(one))
    assert found.filters_that_depend > 0
    assert found.verdict.startswith("Static in effect: ")
    assert found.shuffled.accuracy == 1


def test_controls_cost_the_same(found):
    assert found.shuffled.macs == pytest.approx(found.macs)
    assert found.shuffled_at_cost.macs == pytest.approx(found.macs)
    assert 0.9 * found.macs < found.static.macs <= found.macs


def test_it_is_the_same_again_and_in_batches_of_another_size(looking, found):
    assert analysis.dynamism(looking, taught(looking)) == found
    other = analysis.dynamism(looking, taught(looking, batch=30))
    assert other.shuffled.accuracy == pytest.approx(found.shuffled.accuracy, abs=0.02)
    assert other.verdict.split(":")[0] == found.verdict.split(":")[0]
    assert analysis.dynamism(looking, taught(looking), seed=1).shuffled != found.shuffled


def test_images_may_lie_class_by_class(looking, found):
    by_class = analysis.dynamism(looking, taught(looking, order=torch.Tensor.argsort))
    assert by_class.verdict.startswith("Dynamic: ")
    assert by_class.shuffled.accuracy == pytest.approx(found.shuffled.accuracy, abs=0.15)


def test_it_is_plain_numbers(found):
    said = json.loads(json.dumps(found.to_json()))
    assert said["verdict"] == found.verdict
    assert said["share_that_depends"] == found.share_that_depends
    assert said["shuffled"]["accuracy"] == found.shuffled.accuracy


@given(st.integers(2, 300), st.integers(0, 2**16))
def test_everyone_gets_anothers(count, seed):
    other = controls.shuffle(count, torch.Generator().manual_seed(seed))
    assert other.sort().values.tolist() == list(range(count))
    assert (other != torch.arange(count)).all()


@given(st.lists(st.integers(0, 5), min_size=2, max_size=200), st.integers(0, 2**16))
def test_everyone_gets_anothers_of_about_the_same_cost(costs, seed):
    macs = torch.tensor(costs, dtype=torch.float64)
    other = controls.shuffle_at_cost(macs, torch.Generator().manual_seed(seed))
    assert other.sort().values.tolist() == list(range(len(macs)))
    assert (other != torch.arange(len(macs))).all()
    # An image's place by cost moves by less than two blocks.
    ranks = macs[other].sort().values
    assert torch.equal(ranks, macs.sort().values)
    ends = zip(*torch.stack([macs, macs[other]]).sort(0).values, strict=True)
    between = [(macs > low) & (macs < high) for low, high in ends]
    assert max(int(one.sum()) for one in between) < 100


@settings(max_examples=15)
@given(st.integers(0, 2**16), st.floats(0.2, 0.9))
def test_the_projection_is_the_largest_that_costs_no_more(seed, share):
    whole = _WHOLE
    generator = torch.Generator().manual_seed(seed)
    chance = {
        gate.site.name: torch.rand(gate.site.out_channels, generator=generator) * 2 * share
        for gate in whole.gates.values()
    }
    masks = {
        name: torch.rand(40, len(one), generator=generator) < one for name, one in chance.items()
    }
    macs = whole.anatomy.plan.total(masks).double()
    seen = controls.Observed(masks, macs, torch.ones(40).bool(), torch.zeros(40))
    fixed, cost = controls.projection(whole, seen)
    assert cost <= macs.mean()
    shares = {name: mask.double().mean(0) for name, mask in masks.items()}
    on = torch.cat([shares[name][mask] for name, mask in fixed.items()])
    off = torch.cat([shares[name][~mask] for name, mask in fixed.items()])
    assert not len(off) or not len(on) or on.min() >= off.max()
    row = {name: mask[None] for name, mask in fixed.items()}
    assert whole.anatomy.plan.total(row).item() == cost


_WHOLE = model(gates.Fixed({}))


def test_an_escalation_is_compared_with_chance(looking):
    network = resnet8()
    images = taught(network)
    small = model(gates.Fixed({"layer1.0.conv1": [True] * 4 + [False] * 12}))
    chosen = ftwt.escalate([small, network]).eval()
    sure = torch.cat([chosen.policy.sureness(0, small(x), len(x)) for x, _ in images])
    found = analysis.dynamism(chosen.with_thresholds([sure.median().item()]), images)
    assert [round(one.share, 1) for one in found.settings] == [0.5, 0.5]
    assert found.settings[1].accuracy == 1
    expected = sum(one.share * one.accuracy for one in found.settings)
    assert found.shuffled.accuracy == pytest.approx(expected)
    assert found.shuffled.macs == pytest.approx(found.macs)
    assert found.macs_wrong is None or found.macs_wrong < found.dense_macs
    assert found.filters == 0
    for level, verdict in ((0.0, "stops at the first"), (1.0, "goes on from the first")):
        one = analysis.dynamism(chosen.with_thresholds([level]), images)
        assert verdict in one.verdict


def test_a_signal_that_knows_makes_an_escalation_dynamic_and_noise_does_not():
    network, small = resnet8(), model(gates.Fixed({"conv1": [True] * 5 + [False] * 11}))
    images = taught(network)
    knows = {}
    for pixels, labels in images:
        for output, label in zip(small(pixels), labels, strict=True):
            knows[tuple(output.tolist())] = float(output.argmax() == label)

    def told(output):
        return torch.tensor([knows[tuple(row.tolist())] for row in output])

    def noise(output):
        return (output[:, 0] * 1e4).frac().abs()

    verdicts = [
        analysis.dynamism(ftwt.escalate([small, network], by=by).eval(), images).verdict
        for by in (told, noise)
    ]
    assert verdicts[0].startswith("Dynamic: ")
    assert verdicts[1].startswith("Static in effect: ")


def test_what_cannot_be_diagnosed_is_refused(looking):
    images = taught(looking)
    refused("has no gates", analysis.dynamism, resnet8(), images)
    refused("gives its batches once", analysis.dynamism, looking, iter(images))
    refused("9 images say too little", analysis.dynamism, looking, images, limit=9)
    refused("or in another order", analysis.dynamism, looking, Reversing(images))


class Reversing:
    """Gives its batches the other way round each time."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        self.batches = self.batches[::-1]
        return iter(self.batches)
