"""Escalation: settings, calibration, saving, and what is refused."""

import dataclasses

import pytest
import torch
from torch import nn

import ftwt
from ftwt import escalation, gates, runtime, training
from tests.small import labelled, resnet8

EXAMPLE = torch.zeros(1, 3, 32, 32)


def static(network, share):
    """A network with that share of each site's filters, the first ones."""
    whole = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    masks = {
        gate.site.name: torch.arange(gate.site.out_channels) < share * gate.site.out_channels
        for gate in whole.gates.values()
    }
    return ftwt.attach(network, ftwt.Pruning(gates.Fixed(masks)), example=EXAMPLE)


@pytest.fixture(scope="module")
def network():
    return resnet8()


@pytest.fixture(scope="module")
def model(network):
    """A quarter, a half, and the plain network."""
    return ftwt.escalate([static(network, 0.25), static(network, 0.5), network]).eval()


@pytest.fixture(scope="module")
def calibrated(model):
    return ftwt.calibrate(model, labelled(120, 40), reductions=[0.1, 0.4, 0.7])


def test_a_gated_network_alone_goes_on_to_every_filter(network):
    gated = ftwt.attach(network, ftwt.Pruning(), example=EXAMPLE).eval()
    model = ftwt.escalate(gated, thresholds=1.0)
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(model(images), network(images))
    assert model.gated[1].gate_macs == 0
    assert {id(one) for one in gated.backbone_parameters()} == {
        id(one) for one in model.gated[1].parameters()
    }


def test_settings_of_one_calibrated_network(network):
    gated = ftwt.attach(network, ftwt.Pruning(), example=EXAMPLE).eval()
    calibrated = ftwt.calibrate(gated, labelled(20, 20), reductions=[0.2, 0.6])
    model = ftwt.escalate(calibrated, [0.6, 0.3, network])
    assert [len(set(one.thresholds.values())) for one in model.gated] == [1, 1, 1]
    assert model.gated[0].thresholds["conv1"] > model.gated[1].thresholds["conv1"]


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


def test_saved_and_loaded_it_answers_the_same(calibrated, tmp_path):
    images = torch.randn(6, 3, 32, 32)
    path = tmp_path / "model.safetensors"
    ftwt.save(calibrated, path, ftwt.Card("cifar10-resnet8", 10))
    again, _ = ftwt.load(path)
    assert isinstance(again, ftwt.Escalating)
    assert (again.policy, again.operating_points) == (
        calibrated.policy,
        calibrated.operating_points,
    )
    for one, other in ((again, calibrated), (m.at(reduction=0.3) for m in (again, calibrated))):
        assert torch.equal(one(images), other(images))
        assert torch.equal(one.trace(images).macs, other.trace(images).macs)


def test_shared_weights_are_written_once_and_shared_again(network, tmp_path):
    gated = ftwt.attach(network, ftwt.Pruning(), example=EXAMPLE).eval()
    calibrated = ftwt.calibrate(gated, labelled(20, 20), reductions=[0.2, 0.6])
    model = ftwt.escalate(calibrated, [0.6, 0.3, escalation.every_filter(calibrated)])
    ftwt.save(model, tmp_path / "all.safetensors", ftwt.Card("cifar10-resnet8", 10))
    ftwt.save(gated, tmp_path / "one.safetensors", ftwt.Card("cifar10-resnet8", 10))
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("all", "one")]
    assert sizes[0] < 1.2 * sizes[1]
    again, _ = ftwt.load(tmp_path / "all.safetensors")
    assert len(list(again.parameters())) == len(list(model.parameters()))
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(again(images), model(images))


def test_settings_of_different_networks(network, tmp_path):
    large = ftwt.backbones.resnet20().eval()
    model = ftwt.escalate([static(network, 0.5), large]).eval()
    images = torch.randn(3, 3, 32, 32)
    assert model.dense_macs == ftwt.attach(large, ftwt.Pruning(), example=EXAMPLE).dense_macs
    names = ("cifar10-resnet8", "cifar10-resnet20")
    path = tmp_path / "model.safetensors"
    ftwt.save(model, path, ftwt.Card(None, 10, networks=names))
    assert torch.equal(ftwt.load(path)[0](images), model(images))
    ftwt.save(model, path, ftwt.Card(None, 10))
    with pytest.raises(ftwt.FtwtError, match="holds a network of your own"):
        ftwt.load(path)
    own = [ftwt.backbones.resnet8(), ftwt.backbones.resnet20()]
    assert torch.equal(ftwt.load(path, own)[0](images), model(images))
    with pytest.raises(ftwt.FtwtError, match=r"1 networks came .* which holds 2"):
        ftwt.load(path, own[:1])
    with pytest.raises(ftwt.FtwtError, match="names 1 networks for 2 settings"):
        ftwt.save(model, path, ftwt.Card(None, 10, networks=names[:1]))


@ftwt.register
@dataclasses.dataclass(frozen=True)
class Loudness:
    """A signal of a user's own: how far the largest output is from zero."""

    scale: float = 1.0

    def __call__(self, output):
        return self.scale * output.abs().amax(1)


def test_a_signal_of_ones_own_is_asked_calibrated_and_saved(model, tmp_path):
    own = ftwt.escalate(list(model.gated), by=Loudness(3.0), thresholds=[2.0, 40.0])
    images = labelled(60, 30)
    found = ftwt.calibrate(own, images, reductions=[0.3, 0.5])
    seen = training.evaluate(found.at(reduction=0.3), images)
    assert seen.reduction_exact == pytest.approx(0.3, abs=0.02)
    ftwt.save(found, tmp_path / "model.safetensors", ftwt.Card("cifar10-resnet8", 10))
    again, _ = ftwt.load(tmp_path / "model.safetensors")
    assert again.policy == found.policy


@ftwt.register
def first_class(output):
    """A signal as a function."""
    return output[:, 0]


def test_a_function_is_a_signal_and_saved_if_it_has_a_name(model, tmp_path):
    path, card = tmp_path / "model.safetensors", ftwt.Card("cifar10-resnet8", 10)
    own = ftwt.escalate(list(model.gated), by=first_class, thresholds=0.0)
    ftwt.save(own, path, card)
    assert ftwt.load(path)[0].policy == own.policy
    lost = ftwt.escalate(list(model.gated), by=lambda output: output[:, 0], thresholds=0.0)
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(lost(images), own(images))
    with pytest.raises(ftwt.FtwtError, match="is a lambda"):
        ftwt.save(lost, path, card)


class Heads(nn.Module):
    """Answers with a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.features(x)
        return {"map": x, "logits": self.head(x.mean((2, 3)))}


def test_outputs_of_several_tensors_are_put_together():
    torch.manual_seed(0)
    network, example = Heads().eval(), torch.zeros(1, 3, 8, 8)
    whole = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=example)
    name, images = whole.sites[0], torch.randn(6, 3, 8, 8)
    small = escalation.with_gate(whole, gates.Fixed({name: [True] * 4 + [False] * 4}))
    margin = escalation.Margin()

    def by(output):
        return margin(output["logits"])

    level = by(small(images)).median().item()
    trace = ftwt.escalate([small, whole], by=by, thresholds=level).trace(images)
    goes_on = by(small(images)) < level
    for key in ("map", "logits"):
        shape = (-1,) + (1,) * (trace.output[key].dim() - 1)
        expected = torch.where(goes_on.view(shape), whole(images)[key], small(images)[key])
        assert torch.allclose(trace.output[key], expected, atol=1e-6)
    with pytest.raises(ftwt.FtwtError, match="Margin: the network answers with a dict, not with"):
        ftwt.escalate([small, whole])(images)


def test_gradients_reach_the_setting_that_answered(network):
    model = ftwt.escalate([static(network, 0.5), network], thresholds=1.0)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert model.gated[1].conv1.weight.grad is not None
    assert model.gated[0].conv1.weight.grad is None


def test_skipping_follows_the_reduction(calibrated):
    fast = runtime.skip(calibrated)
    images = torch.randn(5, 3, 32, 32)
    for reduction in (0.1, 0.7):
        expected = calibrated.at(reduction=reduction)(images)
        assert torch.allclose(fast.at(reduction=reduction)(images), expected, atol=1e-4)
    with pytest.raises(ftwt.FtwtError, match="a plan is of one gated network"):
        runtime.skip(calibrated, plan={})


def test_fixed_settings_run_as_smaller_networks(model):
    fast = runtime.skip(model)
    for skipping, setting in zip(fast.settings, model.gated, strict=True):
        masks = setting.trace(EXAMPLE).macs
        assert skipping.model.dense_macs == masks.item()
        assert len(skipping.model.sites) == 1


def refused(match, call, *arguments, **keywords):
    with pytest.raises(ftwt.FtwtError, match=match) as caught:
        call(*arguments, **keywords)
    assert "\n" not in str(caught.value)


def test_settings_that_cannot_answer_for_each_other_are_refused(network):
    quarter, half = static(network, 0.25), static(network, 0.5)
    refused("1 setting, so nothing to go on to", ftwt.escalate, [half])
    refused(r"setting 0 costs .* rising cost", ftwt.escalate, [half, quarter])
    refused(r"setting 1 costs .* rising cost", ftwt.escalate, [quarter, network, network])
    refused("at thresholds as low or lower", ftwt.escalate, [gated := looking(network), gated])
    other = ftwt.attach(ftwt.backbones.resnet8(num_classes=7), ftwt.Pruning(), example=EXAMPLE)
    refused(r"answers with \(10,\), the next one with \(7,\)", ftwt.escalate, [half, other])
    smaller = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 16, 16))
    refused("takes samples of shapes", ftwt.escalate, [half, smaller])
    drawn = ftwt.attach(network, ftwt.Pruning(gates.Random(0.5)), example=EXAMPLE)
    refused("go by the place in the batch", ftwt.escalate, [drawn, network])
    nested = ftwt.escalate([quarter, half])
    refused("one of the settings escalates itself", ftwt.escalate, [nested, network])
    refused("none of the networks has gates", ftwt.escalate, [network, network])
    refused("has no gates, so it is one setting", ftwt.escalate, network)
    refused("none of the settings is of the model", ftwt.escalate, quarter, [network])
    refused("do not fall", ftwt.escalate, quarter, [0.3, 0.6])
    refused("was not calibrated", ftwt.escalate, quarter, [0.6, network])
    refused("hold 0.6, which is no network", ftwt.escalate, [0.6, network])


def looking(network):
    return ftwt.attach(network, ftwt.Pruning(), example=EXAMPLE).eval()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"thresholds": [0.5]}, "1 thresholds for 3 settings, so they are another model's"),
        ({"thresholds": {"conv1": 0.0}}, "named conv1: those of another model's gates"),
        ({"thresholds": 1.5}, r"the threshold 1.5 is none for Margin\(\)"),
        ({"thresholds": float("nan")}, "the threshold nan is none"),
        ({"by": escalation.Margin}, "is no signal; give an instance"),
        ({"by": [escalation.Margin()]}, "1 signals for 3 settings"),
        ({"by": 0.5}, "by=0.5 is no signal"),
        ({"weight": 0.0}, r"weight=0.0 is outside \(0, 1\]"),
        ({"settings": [0.5]}, "settings= are those of one gated network"),
    ],
)
def test_options_are_checked(model, options, match):
    refused(match, ftwt.escalate, list(model.gated), **options)
    if "thresholds" in options and not isinstance(options["thresholds"], float):
        refused(match, model.with_thresholds, options["thresholds"])


def test_answers_without_a_confidence_are_refused(model):
    settings, images = list(model.gated), torch.randn(4, 3, 32, 32)
    refused(
        "1.* for 4 samples; give a signal", ftwt.escalate(settings, by=lambda output: 1.0), images
    )
    refused("a tensor .4, 10. for 4 samples", ftwt.escalate(settings, by=lambda out: out), images)
    images[2] = float("nan")
    refused("NaN for 1 of 4 samples", model, images)
    lone = escalation.Margin()
    refused("no two classes", lone, torch.zeros(3, 1))
    refused("answers with a torch.int64 tensor", lone, torch.zeros(3, 4, dtype=torch.int64))
    refused("Temperature: value=0 is not above 0", escalation.Temperature, lone, 0)
    refused("only logits can be scaled", escalation.Temperature(lone, 2.0), {"out": images})


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


def test_other_sizes_are_counted_by_their_own_gates(network):
    gated = looking(network)
    images = torch.randn(2, 3, 40, 40)
    assert gated.trace(images).macs.min() > 0
    whole = escalation.every_filter(gated)
    assert whole.trace(images).macs.tolist() == [gated.trace(images).plan.dense_macs] * 2
    trace = ftwt.escalate(gated, thresholds=1.0).trace(images)
    assert torch.equal(trace.macs, gated.trace(images).macs + whole.trace(images).macs)
    assert trace.dense_macs == gated.trace(images).plan.dense_macs


def test_narrowed_settings_with_fixed_masks_run_cut(network):
    half = static(network, 0.5)
    kept = {
        gate.site.name: torch.arange(gate.site.out_channels) % 4 > 0 for gate in half.gates.values()
    }
    small = ftwt.slicing.narrow(half, kept).eval()
    model = ftwt.escalate([small, network]).eval()
    images = torch.randn(4, 3, 32, 32)
    fast = runtime.skip(model)
    assert len(fast.settings[0].model.sites) == 1
    assert torch.allclose(fast(images), model(images), atol=1e-4)
    assert torch.equal(fast.audit(images).macs, model.trace(images).macs)


def test_it_is_called_by_keyword_like_the_network(model):
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(model(images=images), model(images))
    assert torch.equal(model.trace(images=images).macs, model.trace(images).macs)


def test_no_gates_are_attached_to_what_escalates(model):
    refused("holds a network that has gates", ftwt.attach, model, ftwt.Pruning(), example=EXAMPLE)
