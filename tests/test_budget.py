"""Budgets: solving, calibrating, saving settings, and one clear line for each bad input."""

import copy
import json
from itertools import pairwise

import pytest
import safetensors.torch
import torch
from torch import nn

import ftwt
from ftwt import FtwtError, gates, targets
from ftwt.gated.operating_points import OperatingPoint, thresholds_at
from ftwt.io import storage
from tests import small
from tests.small import refused

EXAMPLE = torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def network():
    return small.resnet8()


@pytest.fixture(scope="module")
def batches():
    return small.labelled(24, 10)


def attach(network, gate=None, target=None, **options):
    pruning = ftwt.Pruning(gate or gates.PooledLinear(), target or targets.HeatmapMass(0.7))
    return ftwt.attach(network, pruning, example=EXAMPLE, **options).eval()


@pytest.fixture(scope="module")
def model(network):
    """Gates with logits that differ between filters and images, as trained ones have."""
    torch.manual_seed(2)
    model = attach(network, gates.PooledLinear(normalize="layer"))
    for parameter in model.gate_parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def oracle_reduction(network, solution, batches):
    """What an attached oracle with the solved target gives, gates counted as PooledLinear's."""
    oracle = attach(network, gates.Oracle(), solution.target)
    plan = attach(network).anatomy.plan
    with torch.no_grad():
        macs = torch.cat([plan.total(oracle.trace(images).masks) for images, _ in batches])
    return 1 - macs.double().mean().item() / plan.dense_macs


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("reduction", [0.3, 0.5, 0.7])
def test_solve_lands_on_the_budget(network, batches, reduction, per_layer):
    model = attach(network)
    solution = ftwt.solve(model, batches, reduction=reduction, per_layer=per_layer)
    assert solution.predicted == pytest.approx(reduction, abs=0.01)
    assert oracle_reduction(network, solution, batches) == pytest.approx(solution.predicted)
    assert isinstance(solution.target, targets.PerSite if per_layer else targets.HeatmapMass)
    assert set(solution.amounts) == set(model.sites)
    assert len(set(solution.amounts.values())) > 1 or not per_layer


@pytest.mark.parametrize("target", [targets.TopK(0.9), targets.HeatmapMass(0.9, "reach", 2, "l2")])
def test_solve_moves_the_models_own_rule(network, batches, target):
    solution = ftwt.solve(attach(network, target=target), batches, reduction=0.4)
    assert type(solution.target) is type(target)
    assert oracle_reduction(network, solution, batches) == pytest.approx(0.4, abs=0.01)


def test_a_mass_for_each_layer_takes_first_what_does_not_hurt(network, batches):
    """A branch that is multiplied by zero: its inner filters are worth nothing."""
    idle = copy.deepcopy(network)
    nn.init.zeros_(idle.layer2[0].bn2.weight)
    model = attach(idle)
    solution = ftwt.solve(model, batches, reduction=0.2, per_layer=True)
    assert solution.predicted == pytest.approx(0.2, abs=0.01)
    assert solution.amounts["layer2.0.conv1"] < 0.9
    others = {name: mass for name, mass in solution.amounts.items() if name != "layer2.0.conv1"}
    assert set(others.values()) == {1.0}


def test_solve_by_the_one_pass_alone(network, batches):
    model = attach(network)
    solution = ftwt.solve(model, batches, reduction=0.5, sequential=False)
    assert solution.one_pass == pytest.approx(0.5, abs=0.005)
    row = ftwt.estimate(model, batches, [solution.target]).rows[0]
    assert row.reduction_with_gates == pytest.approx(solution.one_pass, abs=1e-12)
    assert oracle_reduction(network, solution, batches) == pytest.approx(solution.predicted)


def test_solve_in_the_papers_convention(network, batches):
    solution = ftwt.solve(attach(network), batches, reduction=0.5, convention="paper")
    oracle = attach(network, gates.Oracle(), solution.target)
    found = ftwt.training.evaluate(oracle, batches)
    assert found.reduction_paper == pytest.approx(solution.predicted, abs=1e-9)
    assert solution.predicted == pytest.approx(0.5, abs=0.01)


def test_a_budget_that_silent_filters_meet_keeps_all_mass(network, batches):
    assert ftwt.solve(attach(network), batches, reduction=0.0).target.mass == 1.0


def test_calibration_meets_each_reduction_and_thresholds_rise(model, batches):
    wanted = (0.2, 0.4, 0.6)
    calibrated = ftwt.calibrate(model, batches, reductions=wanted)
    assert model.operating_points == ()
    assert set(model.thresholds.values()) == {0.0} == set(calibrated.thresholds.values())
    for reduction, point in zip(wanted, calibrated.operating_points, strict=True):
        at = calibrated.at(reduction=reduction)
        found = ftwt.training.evaluate(at, batches)
        assert found.reduction_exact == pytest.approx(reduction, abs=0.01)
        assert found.reduction_exact == point.measured
        assert at.thresholds == point.thresholds
    many = [calibrated.at(reduction=0.2 + 0.4 * step / 20) for step in range(21)]
    for lower, higher in pairwise(many):
        assert all(lower.thresholds[name] < higher.thresholds[name] for name in model.sites)
    again = ftwt.calibrate(calibrated, batches, reductions=wanted)
    assert again.operating_points == calibrated.operating_points


def test_a_lone_reduction_is_set_at_once(model, batches):
    tuned = ftwt.calibrate(model, batches, reductions=[0.5])
    found = ftwt.training.evaluate(tuned, batches)
    assert found.reduction_exact == pytest.approx(0.5, abs=0.01)


def test_reduction_rises_with_the_setting_where_logits_do_not_move(network, batches):
    """Logits that ignore the image make masks nest, so the cost can only fall."""
    model = attach(network, gates.PooledLinear())
    torch.manual_seed(3)
    for name, parameter in model.gates.named_parameters():
        nn.init.normal_(parameter) if "bias" in name else nn.init.zeros_(parameter)
    calibrated = ftwt.calibrate(model, batches, reductions=(0.2, 0.5, 0.8))
    settings = [calibrated.at(reduction=0.2 + 0.6 * step / 12) for step in range(13)]
    found = [ftwt.training.evaluate(one, batches).reduction_exact for one in settings]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_trace_compares_logits_with_the_threshold(model, batches):
    images, _ = batches[0]
    moved = model.with_thresholds({name: 0.1 * place for place, name in enumerate(model.sites)})
    with torch.no_grad():
        trace = moved.trace(images)
    for name, site in trace.sites.items():
        assert torch.equal(site.mask, site.logits > moved.thresholds[name])
    assert torch.equal(trace.output, moved(images))
    closed = model.with_thresholds(dict.fromkeys(model.sites, float("inf")))
    assert not any(mask.any() for mask in closed.trace(images).masks.values())


def test_settings_share_weights_and_leave_the_model_alone(model, batches):
    images, _ = batches[0]
    before = model(images)
    moved = model.with_thresholds(dict.fromkeys(model.sites, 1.0))
    assert not torch.equal(moved(images), before)
    assert torch.equal(model(images), before)
    assert all(a is b for a, b in zip(model.parameters(), moved.parameters(), strict=True))
    assert list(moved.state_dict()) == list(model.state_dict())
    assert torch.equal(copy.deepcopy(moved)(images), moved(images))


def test_the_runtime_takes_each_setting(model, batches):
    images, _ = batches[0]
    calibrated = ftwt.calibrate(model, batches, reductions=(0.3, 0.6))
    fast = ftwt.runtime.skip(calibrated)
    for reduction in (0.3, 0.6, 0.45, 0.3):
        masked = calibrated.at(reduction=reduction)
        with torch.no_grad():
            trace = masked.trace(images)
        moved = fast.at(reduction=reduction)
        assert torch.allclose(moved(images), trace.output, rtol=1e-4, atol=1e-5)
        assert torch.equal(moved.audit(images).counted_macs, trace.macs)
    assert torch.allclose(fast(images), calibrated(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("source", ["dense", "teacher"])
def test_targets_of_the_plain_network_need_no_correction(network, batches, source):
    """An oracle on dense targets reads what the one pass sees, so both count the same."""
    pruning = ftwt.Pruning(target=targets.HeatmapMass(0.9), target_source=source)
    model = ftwt.attach(network, pruning, example=EXAMPLE).eval()
    solution = ftwt.solve(model, batches, reduction=0.5)
    assert solution.predicted == pytest.approx(solution.one_pass, abs=1e-12)
    oracle = ftwt.Pruning(gates.Oracle(), solution.target, target_source="dense")
    found = ftwt.training.evaluate(ftwt.attach(network, oracle, example=EXAMPLE), batches)
    assert solution.accuracy == found.accuracy
    row = ftwt.estimate(model, batches, [solution.target]).rows[0]
    assert found.reduction_exact == pytest.approx(row.reduction_exact, abs=1e-12)
    assert solution.predicted == pytest.approx(row.reduction_with_gates, abs=1e-12)


def test_settings_are_saved_with_the_model(model, batches, tmp_path):
    calibrated = ftwt.calibrate(model, batches, reductions=(0.3, 0.5))
    now = calibrated.at(reduction=0.4)
    card = ftwt.Card(network="cifar10-resnet8", num_classes=10)
    ftwt.save(now, tmp_path / "model.safetensors", card)
    again, _ = ftwt.load(tmp_path / "model.safetensors")
    assert isinstance(again, ftwt.Gated)
    assert again.operating_points == now.operating_points
    assert again.thresholds == now.thresholds
    images, _ = batches[0]
    assert torch.equal(again(images), now(images))
    other, same = again.at(reduction=0.5), calibrated.at(reduction=0.5)
    assert torch.equal(other(images), same(images))


def test_files_without_settings_load(model, tmp_path):
    """As files were before thresholds could move."""
    path = tmp_path / "model.safetensors"
    ftwt.save(model, path, ftwt.Card(network="cifar10-resnet8", num_classes=10))
    weights, metadata = storage.read_tensors(path)

    about = json.loads(metadata["ftwt"])
    del about["thresholds"], about["operating_points"]
    safetensors.torch.save_file(weights, path, metadata={"ftwt": json.dumps(about)})
    again, _ = ftwt.load(path)
    assert set(again.thresholds.values()) == {0.0}
    assert again.operating_points == ()


def test_a_target_for_each_site(network, batches):
    rules = {
        name: targets.HeatmapMass(0.5 + 0.04 * n) for n, name in enumerate(attach(network).sites)
    }
    images, _ = batches[0]
    model = attach(network, gates.Oracle(), targets.PerSite(rules))
    seen = {}

    def look(site, features):
        seen[site] = rules[site](features)
        return seen[site]

    with torch.no_grad():
        masks = model.trace(images).masks
        model.forward_with_masks(look, images)
    assert all(torch.equal(masks[name], seen[name]) for name in rules)
    with pytest.raises(FtwtError, match=r"no rule for the site 'layer1\.0\.conv1'"):
        attach(network, target=targets.PerSite({"conv1": targets.Active()}))
    with pytest.raises(FtwtError, match="a rule for 'nowhere', which is no site"):
        attach(network, target=targets.PerSite({**rules, "nowhere": targets.Active()}))
    refused("no rules", targets.PerSite, {})


@pytest.mark.parametrize("reduction", [-0.1, 1.0, float("nan")])
def test_reductions_out_of_range(model, batches, reduction):
    refused(r"is outside \[0, 1\)", ftwt.solve, model, batches, reduction=reduction)
    refused(r"is outside \[0, 1\)", ftwt.calibrate, model, batches, reductions=[reduction])


def test_an_unreachable_budget_names_the_largest_and_what_limits_it(network, model, batches):
    some = attach(network, where=["conv1", "layer1.0.conv1"])
    with pytest.raises(
        FtwtError, match=r"solve: .*0\.9 is out of reach, the largest is 0\.\d+"
    ) as one:
        ftwt.solve(some, batches, reduction=0.9)
    assert "layer2.0.conv2 (" in str(one.value)
    assert "\n" not in str(one.value)
    tuned = attach(network, where=["conv1", "layer1.0.conv1"])
    with pytest.raises(
        FtwtError, match=r"calibrate: .*0\.9 is out of reach, the largest is 0\."
    ) as two:
        ftwt.calibrate(tuned, batches, reductions=[0.9])
    assert "layer2.0.conv2 (" in str(two.value)
    few = attach(network, target=targets.HeatmapMass(0.9, min_channels=12))
    refused("fewer min_channels", ftwt.solve, few, batches, reduction=0.9)


@pytest.mark.parametrize("call", [
    lambda model, loader: ftwt.solve(model, loader, reduction=0.5),
    lambda model, loader: ftwt.calibrate(model, loader, reductions=[0.5]),
    lambda model, loader: ftwt.estimate(model, loader, [targets.HeatmapMass(0.5)]),
])  # fmt: skip
def test_loaders_that_will_not_do(network, model, batches, call):
    refused("the loader gave no images", call, model, [])
    refused("has no gates", call, network, batches)


def test_too_few_images_and_loaders_that_end(model, batches):
    images, labels = batches[0]
    one = [(images[:1], labels[:1])]
    for call in (
        lambda loader: ftwt.solve(model, loader, reduction=0.5),
        lambda loader: ftwt.calibrate(model, loader, reductions=[0.5]),
    ):
        refused("1 image says too little about others; give at least", call, one)
        refused("gives its batches once", call, iter(batches))


def test_masses_out_of_order_or_repeated(model, batches):
    def ask(*masses):
        return ftwt.estimate(model, batches, [targets.HeatmapMass(one) for one in masses])

    refused(r"mass 0\.8 comes after 0\.9; give masses", ask, 0.9, 0.8)
    refused(r"mass 0\.9 is given twice", ask, 0.9, 0.9)
    refused("no target rules", ask)
    falling = r"0\.4 comes after 0\.5 in reductions; give each once"
    refused(falling, ftwt.calibrate, model, batches, reductions=[0.5, 0.4])
    refused("no reductions", ftwt.calibrate, model, batches, reductions=[])


def test_what_cannot_be_solved_or_moved(network, model, batches):
    with pytest.raises(FtwtError, match=r"Active\(\) keeps no amount"):
        ftwt.solve(attach(network, target=targets.Active()), batches, reduction=0.5)
    with pytest.raises(FtwtError, match="convention='flops' is unknown"):
        ftwt.solve(model, batches, reduction=0.5, convention="flops")
    with pytest.raises(FtwtError, match="an oracle has no thresholds"):
        ftwt.calibrate(attach(network, gates.Oracle()), batches, reductions=[0.5])
    refused("was not calibrated", model.at, reduction=0.5)
    refused("'conv1' has no threshold", model.with_thresholds, dict.fromkeys(model.sites[1:], 0.0))
    refused("'elsewhere' is no site", model.with_thresholds, {**model.thresholds, "elsewhere": 0.0})
    points = tuple(OperatingPoint(one, one, 0.5, {"a": one}) for one in (0.2, 0.4))
    assert thresholds_at(points, 0.3) == {"a": pytest.approx(0.3)}
    for outside in (0.1, 0.5, float("nan")):
        refused(r"calibrated for reductions from 0\.2 to 0\.4", thresholds_at, points, outside)
