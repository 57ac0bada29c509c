"""Goldens of the paper's rule, its edge cases, and bad input."""

import pytest
import torch

from ftwt import FtwtError, targets
from ftwt.targets.interface import descending
from tests.small import refused


def kept(target, scores: list[float]) -> list[bool]:
    return target(torch.tensor(scores).view(1, -1, 1, 1))[0].tolist()


def test_the_papers_example():
    scores = [0.3, 0.3, 0.2, 0.1, 0.1]
    assert kept(targets.HeatmapMass(0.95), scores) == [True] * 4 + [False]
    assert kept(targets.HeatmapMass(0.95, boundary="reach"), scores) == [True] * 5


def test_a_mass_that_is_met_exactly_is_kept_in_spite_of_rounding():
    assert sum(kept(targets.HeatmapMass(0.9), [0.3, 0.3, 0.2, 0.1, 0.1])) == 4
    assert sum(kept(targets.HeatmapMass(0.9, boundary="reach"), [0.3, 0.3, 0.2, 0.1, 0.1])) == 4


def test_one_dominant_channel_is_kept():
    assert kept(targets.HeatmapMass(0.5), [0.8, 0.1, 0.1]) == [True, False, False]


def test_all_zero_keeps_the_minimum():
    assert kept(targets.HeatmapMass(0.9), [0.0, 0.0, 0.0]) == [True, False, False]
    assert sum(kept(targets.HeatmapMass(0.9, min_channels=2), [0.0, 0.0, 0.0])) == 2
    assert sum(kept(targets.Active(), [0.0, 0.0])) == 1


@pytest.mark.parametrize("width", [8, 512, 4096])
def test_mass_one_is_the_limit_whatever_the_width(width):
    values = torch.rand(1, width, 2, 2, generator=torch.Generator().manual_seed(0)) + 0.5
    assert targets.HeatmapMass(1.0)(values).all()
    assert targets.HeatmapMass(1 - 1e-7)(values).all()
    assert targets.HeatmapMass(1 - 3 / width)(values).sum() < width


def test_ties_go_to_the_lower_index():
    assert kept(targets.TopK(0.5), [0.2, 0.5, 0.5, 0.5]) == [False, True, True, False]


def test_scores():
    values = torch.tensor([[[[3.0, -4.0]], [[0.0, 0.0]]]])
    assert targets.channel_scores(values, "max").tolist() == [[4.0, 0.0]]
    assert targets.channel_scores(values, "mean").tolist() == [[3.5, 0.0]]
    assert targets.channel_scores(values, "l2").tolist() == [[5.0, 0.0]]


def test_bfloat16_features_are_ranked():
    values = torch.rand(2, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    assert targets.HeatmapMass(0.7)(values.bfloat16()).any(1).all()


@pytest.mark.parametrize("mass", [0, 1.2, -0.1, float("nan")])
def test_mass_outside_its_range(mass):
    refused(r"mass=.* is outside \(0, 1\]", targets.HeatmapMass, mass)


def test_other_bad_values():
    refused("score='sum' is unknown; use 'max', 'mean' or 'l2'", targets.TopK, 0.5, score="sum")
    with pytest.raises(FtwtError, match="boundary='above' is unknown; use 'below' or 'reach'"):
        targets.HeatmapMass(0.5, boundary="above")
    for few in (0, -1, True):
        refused(f"min_channels={few}; give 1 or more", targets.HeatmapMass, 0.5, min_channels=few)
    refused("fraction=0 is outside", targets.TopK, 0)


@pytest.mark.parametrize("channels", [1, 7, 64, 1000])
def test_the_order_of_scores_is_the_stable_one(channels):
    draws = torch.rand(16, channels, generator=torch.Generator().manual_seed(channels))
    special = torch.tensor([0.0, 1e-40, torch.inf, torch.nan]).repeat(channels)[:channels]
    for scores in (draws, (4 * draws).floor(), torch.where(draws < 0.3, special, draws)):
        expected = torch.argsort(scores, dim=1, descending=True, stable=True)
        assert torch.equal(descending(scores), expected)
