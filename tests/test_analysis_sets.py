"""Measurements over whole sets: core filters, similarity, shifts, outcomes, equal cost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ftwt
from ftwt import FtwtError, analysis, backbones, data, gates, targets
from ftwt.reports.analysis.core import BINS
from ftwt.training import evaluate
from tests.small import refused
from tests.test_analysis import EXAMPLE, attach, batches, model, network, seen  # noqa: F401


def test_core_filters_are_those_of_activity(model, batches, seen):  # noqa: F811
    layers = analysis.core_filters(model, batches)
    for layer, site in zip(layers, seen.sites, strict=True):
        shares = site.share_of_images_by_filter
        assert len(layer.core) == site.core_filters
        assert len(layer.never) == site.never_filters
        assert all(shares[place] == 1 for place in layer.core)
        assert all(shares[place] == 0 for place in layer.never)
        edges = (0, *BINS)
        for part, count in enumerate(layer.between):
            inside = [s for s in shares if edges[part] < s <= edges[part + 1] and s < 1]
            assert count == len(inside)
        assert len(layer.core) + len(layer.never) + sum(layer.between) == layer.filters
    assert len(analysis.core_filters(model, batches, limit=1)[0].core) > 0


def test_similarity_is_the_mean_of_heatmaps(model, batches):  # noqa: F811
    images = torch.cat([images for images, _ in batches])
    for one in analysis.heatmap_similarity(model, batches):
        maps = analysis.heatmaps(model, images, one.site)
        alike, overlap = torch.tensor(maps.cosine), torch.tensor(maps.iou_at_half_maximum)
        assert one.images == len(images)
        assert one.cosine == pytest.approx(alike.mean().item(), abs=1e-6)
        assert one.cosine_std == pytest.approx(alike.std(correction=0).item(), abs=1e-6)
        assert one.iou == pytest.approx(overlap.mean().item(), abs=1e-6)
        assert one.iou_std == pytest.approx(overlap.std(correction=0).item(), abs=1e-6)
        assert one.kept_share == pytest.approx(sum(maps.kept_share) / len(images))
        assert one.reduction_exact == pytest.approx(sum(maps.reduction_exact) / len(images))


def test_similarity_of_nothing_left_out(network, batches):  # noqa: F811
    whole = attach(network, target=targets.Active())
    for one in analysis.heatmap_similarity(whole, batches, sites=["conv1"]):
        assert one.cosine == pytest.approx(1)
        assert one.iou == 1
    with pytest.raises(FtwtError, match="no site is named 'conv9'"):
        analysis.heatmap_similarity(whole, batches, sites=["conv9"])


@pytest.fixture(scope="module")
def images():
    return data.shapes.render_shapes(12, 5)


@pytest.mark.parametrize("shift", analysis.SHIFTS, ids=lambda shift: shift.name)
def test_shifts_change_images_more_and_more(images, shift):
    state = torch.get_rng_state()
    far = []
    for strength in shift.strengths:
        changed = analysis.shifted(images, shift, strength)
        again = analysis.shifted(images, shift, strength)
        assert torch.equal(changed.pixels, again.pixels)
        assert torch.equal(changed.labels, images.labels)
        assert changed.pixels.shape == images.pixels.shape
        far.append((changed.pixels.float() - images.pixels.float()).abs().mean().item())
    assert far == sorted(far)
    assert far[0] > 0
    assert torch.equal(torch.get_rng_state(), state)
    refused(f"{shift.name} has no strength 77", analysis.shifted, images, shift, 77)


def test_noise_comes_from_the_seed(images):
    (noise,) = (shift for shift in analysis.SHIFTS if shift.name == "noise")
    one, two = (analysis.shifted(images, noise, 0.1, seed=seed).pixels for seed in (0, 1))
    assert not torch.equal(one, two)


def test_outcomes_are_those_of_activity(model, batches, seen):  # noqa: F811
    found = analysis.outcomes(model, batches)
    assert tuple(found.macs.tolist()) == seen.macs_by_image
    parts = found.by_class([f"class {label}" for label in range(10)])
    assert sum(part.images for part in parts) == seen.images
    for name in ("accuracy", "reduction_exact", "reduction_paper"):
        mean = sum(getattr(part, name) * part.images for part in parts) / seen.images
        assert mean == pytest.approx(getattr(seen, name))
    assert all((found.confidence > 0) & (found.confidence <= 1))


def test_confidence_parts_are_equally_large_and_in_order(model, batches):  # noqa: F811
    found = analysis.outcomes(model, batches)
    parts = found.by_confidence(5)
    assert [part.images for part in parts] == [2] * 5
    order = found.confidence.argsort()
    least = found.macs[order[:2]].mean().item()
    assert parts[0].reduction_exact == pytest.approx(1 - least / found.dense_macs)
    refused("10 images cannot make 11 parts", found.by_confidence, 11)


def test_correlation_is_none_where_cost_never_varies(network, batches, model):  # noqa: F811
    still = analysis.outcomes(attach(network, gates.Fixed({})), batches)
    assert still.correlation is None
    assert -1 <= analysis.outcomes(model, batches).correlation <= 1


def test_plain_networks_are_refused(network, batches):  # noqa: F811
    for measure in (analysis.outcomes, analysis.core_filters, analysis.heatmap_similarity):
        refused("ResNet has no gates", measure, network, batches)


@settings(max_examples=12)
@given(share=st.floats(0.05, 1.0), seed=st.integers(0, 5))
def test_static_masks_reach_their_macs_and_no_more(share, seed):
    torch.manual_seed(seed)
    plain = backbones.resnet8()
    dense = ftwt.macs.dense_macs(plain, EXAMPLE)
    fixed = analysis.static_uniform(plain, share * dense, example=EXAMPLE)
    plan = attach(plain, fixed).anatomy.plan
    masks = {site: torch.tensor(rows) for site, rows in fixed.masks.items()}
    cost = plan.total(masks).item()
    assert cost <= share * dense
    # One filter more in any layer costs too much, or the layer is whole.
    for site, mask in masks.items():
        more = mask.clone()
        more[0, mask[0].logical_not().nonzero()[:1, 0]] = True
        assert mask.all() or plan.total(masks | {site: more}).item() > share * dense
    # The filters that stay have the largest weights.
    weights = plain.get_submodule("layer2.0.conv1").weight.detach().flatten(1).abs().sum(1)
    kept = masks["layer2.0.conv1"][0]
    assert kept.all() or weights[kept].min() >= weights[~kept].max()


def test_static_masks_below_one_filter_a_layer(network):  # noqa: F811
    with pytest.raises(FtwtError, match="10 MACs are fewer than one filter in each layer costs"):
        analysis.static_uniform(network, 10, example=EXAMPLE)


def test_top_k_comes_near_to_its_macs(network, batches):  # noqa: F811
    dense = ftwt.macs.dense_macs(network, EXAMPLE)
    for share in (0.3, 0.6, 1.0):
        target = analysis.oracle_top_k(network, share * dense, batches, example=EXAMPLE)
        found = evaluate(attach(network, target=target), batches).macs
        steps = [
            evaluate(attach(network, target=targets.TopK(fraction)), batches).macs
            for fraction in (max(0.01, target.fraction - 1 / 16), min(1, target.fraction + 1 / 16))
        ]
        # Nearer than one filter of the narrowest layers more or less.
        assert all(abs(found - share * dense) <= abs(one - share * dense) for one in steps)
    assert target == targets.TopK(1.0)


def test_what_never_runs_is_removed_and_nothing_else(network, batches):  # noqa: F811
    whole = attach(network, gates.Fixed({}))
    _, removal = analysis.without_never(whole, analysis.activity(whole, batches))
    assert removal.parameters_left == removal.parameters
    assert removal.macs_left == removal.macs == ftwt.macs.dense_macs(network, EXAMPLE)
    assert removal.filters_left == removal.filters
    kept = {
        gate.site.name: torch.arange(gate.site.out_channels) % 4 > 0
        for gate in whole.gates.values()
    }
    some_off = attach(network, gates.Fixed(kept))
    small, some = analysis.without_never(some_off, analysis.activity(some_off, batches))
    assert some.filters - some.filters_left == sum(int((~one).sum()) for one in kept.values())
    assert some.macs_left == small.dense_macs < removal.macs
