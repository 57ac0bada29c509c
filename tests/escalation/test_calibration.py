"""Thresholds of an escalation: for a reduction, for a drop, and what cannot be had."""

import pytest
import torch

import ftwt
from ftwt import escalation, training
from tests.escalation.settings import looking, static
from tests.small import labelled, refused


@pytest.mark.parametrize("reduction", [0.1, 0.25, 0.4, 0.55, 0.7])
def test_calibration_meets_a_reduction_and_between(calibrated, reduction):
    seen = training.evaluate(calibrated.at(reduction=reduction), labelled(120, 40))
    known = [point.reduction for point in calibrated.operating_points]
    assert seen.reduction_exact == pytest.approx(reduction, abs=0.01 if reduction in known else 0.2)


def test_a_calibrated_operating_point_says_what_evaluation_says(calibrated):
    for point in calibrated.operating_points:
        seen = training.evaluate(calibrated.at(reduction=point.reduction), labelled(120, 40))
        assert seen.reduction_exact == pytest.approx(point.measured)
        assert seen.accuracy == pytest.approx(point.accuracy)


def test_a_lone_reduction_is_set_at_once(model):
    images = labelled(120, 40)
    found = ftwt.calibrate(model, images, reduction=0.5)
    assert training.evaluate(found, images).reduction_exact == pytest.approx(0.5, abs=0.01)
    assert model.thresholds == (0.5, 0.5)


@pytest.mark.parametrize("drop", [0.0, 0.05])
def test_calibration_to_a_drop_loses_no_more_and_is_the_cheapest_run(network, model, drop):
    images = labelled(120, 40)
    reference = training.evaluate(network, images).accuracy
    found = training.evaluate(ftwt.calibrate(model, images, drop=drop), images)
    assert found.accuracy >= reference - drop - 1e-9
    assert (
        found.reduction_exact
        > training.evaluate(model.with_thresholds([1.0, 1.0]), images).reduction_exact
    )


def test_temperatures_are_found_for_each_setting(model):
    scaled = ftwt.budget.with_temperatures(model, labelled(120, 40))
    values = [one.value for one in scaled.policy.signals]
    assert len(set(values)) == 2
    again = ftwt.budget.with_temperatures(scaled, labelled(120, 40))
    assert [one.value for one in again.policy.signals] == values


def test_calibration_says_what_it_cannot(network, model):
    images = labelled(40, 20)
    refused("9 images say too little", ftwt.calibrate, model, labelled(9, 9), reductions=[0.5])
    refused("0.99 is out of reach, the", ftwt.calibrate, model, images, reductions=[0.99])
    refused("comes after 0.5", ftwt.calibrate, model, images, reductions=[0.5, 0.3])
    refused("give one of", ftwt.calibrate, model, images, reduction=0.5, drop=0.1)
    refused(r"drop=1 is outside \[0, 1\)", ftwt.calibrate, model, images, drop=1)
    refused("drop= is for what", ftwt.calibrate, model.gated[0], images, drop=0.1)
    refused("gives its batches once", ftwt.calibrate, model, iter(images), drop=0.1)
    refused("no reductions", ftwt.calibrate, model, images)
    refused("has no gates", ftwt.calibrate, network, images, reductions=[0.5])
    refused("calibrated for reductions from", calibrate_one(model).at, reduction=0.9)
    maps = [(pixels, torch.zeros(20, 4, 4)) for pixels, _ in images]
    refused("no classifier of these images", ftwt.calibrate, model, maps, drop=0.1)
    refused("no classifier of these", ftwt.budget.with_temperatures, model, maps)
    broken = [(pixels * float("nan"), labels) for pixels, labels in images]
    refused("NaN for 20 of 20", ftwt.calibrate, model, broken, reductions=[0.5])
    closed = looking(network)
    closed.move_thresholds(dict.fromkeys(closed.sites, -1e9))
    upside_down = ftwt.escalate([closed, static(network, 0.25)])
    refused("rising cost", ftwt.calibrate, upside_down, images, reductions=[0.5])
    mixed = ftwt.escalate(list(model.gated), by=[escalation.Margin(), escalation.Entropy()])
    refused("several signals", ftwt.calibrate, mixed, images, reductions=[0.5])


def calibrate_one(model):
    return ftwt.calibrate(model, labelled(40, 20), reductions=[0.2, 0.4])
