"""Laws of every target rule."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

from ftwt import targets
from tests.laws.components import TARGETS

every_target = pytest.mark.parametrize("target", TARGETS, ids=repr)


@st.composite
def features(draw, *, ties: bool = True) -> Tensor:
    """Features of any sign, with dead channels, dead samples, ties and extreme scales."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    batch, channels = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    values = torch.randn(batch, channels, 3, 2, generator=generator)
    if ties and draw(st.booleans()):
        values = values.relu() * (torch.rand(batch, channels, 1, 1, generator=generator) < 0.6)
    if ties and draw(st.booleans()):
        values = values.round()
    return values * draw(st.sampled_from([1e-6, 1.0, 1e6]))


def distinct(values: Tensor, score: str) -> bool:
    scores = targets.channel_scores(values, score)
    return all(len(row.unique()) == len(row) for row in scores)


@every_target
@given(features())
def test_keeps_at_least_one_and_at_most_all(target, values):
    mask = target(values)
    assert mask.shape == values.shape[:2]
    assert mask.dtype == torch.bool
    assert (mask.sum(1) >= 1).all()


@every_target
@given(features(), st.integers(0, 99))
def test_does_not_depend_on_the_batch(target, values, seed):
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(target(values)[order], target(values[order]))
    alone = torch.cat([target(one[None]) for one in values])
    assert torch.equal(target(values), alone)


@every_target
@given(features(ties=False), st.integers(0, 99))
def test_follows_a_permutation_of_channels(target, values, seed):
    # Ties go to the lower index, which a permutation changes.
    assume(distinct(values, getattr(target, "score", "max")))
    order = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(seed))
    assert torch.equal(target(values)[:, order], target(values[:, order]))


@every_target
@given(features(), st.sampled_from([2.0**-7, 0.5, 4.0, 2.0**9]))
def test_does_not_depend_on_scale_or_sign(target, values, scale):
    assert torch.equal(target(values), target(-scale * values))


@every_target
@given(features())
def test_keeps_the_strongest(target, values):
    scores = targets.channel_scores(values, getattr(target, "score", "max"))
    mask = target(values)
    weakest_kept = scores.masked_fill(~mask, float("inf")).amin(1)
    strongest_left = scores.masked_fill(mask, -1.0).amax(1)
    assert (weakest_kept >= strongest_left).all()


@given(features(), st.lists(st.floats(0.01, 1.0), min_size=2, max_size=2),
       st.sampled_from(["below", "reach"]))  # fmt: skip
def test_mass_is_monotone(values, masses, boundary):
    low, high = sorted(masses)
    fewer = targets.HeatmapMass(low, boundary=boundary)(values)
    more = targets.HeatmapMass(high, boundary=boundary)(values)
    assert (fewer <= more).all()


@given(features(), st.floats(0.01, 1.0))
def test_reach_keeps_at_least_what_below_keeps_and_the_mass(values, mass):
    below = targets.HeatmapMass(mass)(values)
    reach = targets.HeatmapMass(mass, boundary="reach")(values)
    assert (below <= reach).all()
    scores = targets.channel_scores(values).double()
    kept = (scores * reach).sum(1)
    assert (kept >= (mass - 2e-6) * scores.sum(1)).all()


@given(features())
def test_mass_one_keeps_exactly_what_fires(values):
    fires = values.abs().amax((2, 3)) > 0
    quiet = ~fires.any(1)
    mask = targets.HeatmapMass(1.0)(values)
    assert torch.equal(mask[~quiet], fires[~quiet])
    assert (mask[quiet].sum(1) == 1).all()


@given(features(), st.floats(0.01, 1.0))
def test_top_k_keeps_exactly_k(values, fraction):
    target = targets.TopK(fraction)
    assert (target(values).sum(1) == target.count(values.shape[1])).all()
    assert target.count(values.shape[1]) == max(1, round(fraction * values.shape[1]))


@given(features(), st.integers(1, 12))
def test_min_channels_is_a_floor(values, least):
    mask = targets.HeatmapMass(0.01, min_channels=least)(values)
    assert (mask.sum(1) >= min(least, values.shape[1])).all()
