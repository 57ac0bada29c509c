"""Escalation: what makes a setting, what is answered, saved and skipped."""

import dataclasses
import math

import pytest
import torch
from torch import nn

import ftwt
from ftwt import escalation, gates, runtime, training
from ftwt.runtime import native
from ftwt.runtime.native.sureness import signal_struct, unsure
from ftwt.runtime.program import Conv, GateStep
from tests.escalation.settings import EXAMPLE, looking, static
from tests.small import labelled, refused


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
    refused("holds a network of your own", ftwt.load, path)
    own = [ftwt.backbones.resnet8(), ftwt.backbones.resnet20()]
    assert torch.equal(ftwt.load(path, own)[0](images), model(images))
    refused(r"1 networks came .* which holds 2", ftwt.load, path, own[:1])
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
    refused("is a lambda", ftwt.save, lost, path, card)


@pytest.mark.parametrize("weight", [0.6, 1.0])
def test_every_second_setting_sees_the_image_from_the_other_side(network, weight, tmp_path):
    torch.manual_seed(0)
    settings = [static(network, share) for share in (0.25, 0.5, 1)]
    model = ftwt.escalate(settings, weight=weight, mirror=True, thresholds=1.0).eval()
    images = torch.randn(3, 3, 32, 32)
    answer = settings[0].eval()(images)
    for setting, shown in (settings[1], images.flip(3)), (settings[2], images):
        answer = weight * setting.eval()(shown) + (1 - weight) * answer
    path = tmp_path / "model.safetensors"
    ftwt.save(model, path, ftwt.Card("cifar10-resnet8", 10))
    fast = runtime.skip(model)
    for one in (model, ftwt.load(path)[0], fast):
        torch.testing.assert_close(one(images), answer, rtol=1e-4, atol=1e-4)
    assert torch.equal(fast.audit(images).macs, model.trace(images).macs)
    seen = ftwt.calibrate(model, labelled(20, 10), reductions=[0.2])
    found = training.evaluate(seen, labelled(20, 10))
    assert seen.operating_points[0].accuracy == pytest.approx(found.accuracy)


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
    # A map would have to be mirrored back.
    with pytest.raises(ftwt.FtwtError, match=r"mirror=True, and the network answers with \(6, 8,"):
        ftwt.escalate([small, whole], by=by, thresholds=math.inf, mirror=True)(images)


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
    refused("a plan is of one gated network", runtime.skip, calibrated, plan={})


def test_fixed_settings_run_as_smaller_networks(model):
    fast = runtime.skip(model)
    sizes = [narrow_size(skipping) for skipping in fast.settings]
    assert sizes == sorted(set(sizes))
    assert sizes[0] < 0.3 * sizes[-1]


def narrow_size(skipping):
    """Weights of a network of which no mask is left to be decided."""
    steps = skipping.program(EXAMPLE).steps
    assert not any(isinstance(step, GateStep) for step in steps)
    return sum(step.weight.numel() for step in steps if isinstance(step, Conv))


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
    assert narrow_size(fast.settings[0]) < 0.6 * narrow_size(fast.settings[1])
    assert torch.allclose(fast(images), model(images), atol=1e-4)
    assert torch.equal(fast.audit(images).macs, model.trace(images).macs)


def test_it_is_called_by_keyword_like_the_network(model):
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(model(images=images), model(images))
    assert torch.equal(model.trace(images=images).macs, model.trace(images).macs)


class Named(nn.Module):
    """Its inputs go by name, in another order than they are used, beside a switch."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, pixels=None, *, scale=1.0, mask=None):
        return (self.two(self.one(pixels).relu() * mask) * scale).mean((2, 3))


def test_settings_keep_switches_and_names():
    network = Named().eval()
    example = {"mask": torch.ones(1, 1, 6, 6), "pixels": torch.zeros(1, 3, 8, 8), "scale": 2.0}
    fixed = gates.Fixed({"one": torch.arange(8) < 4})
    small = ftwt.attach(network, ftwt.Pruning(fixed), example=example)
    whole = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=example)
    model = ftwt.escalate([small, whole], thresholds=1.0).eval()
    call = {"pixels": torch.randn(3, 3, 8, 8), "mask": torch.rand(3, 1, 6, 6), "scale": 2.0}
    with torch.no_grad():
        wanted = network(**call)
        for one in (model, runtime.skip(model)):
            assert torch.allclose(one(**call), wanted, atol=1e-5)
    assert torch.equal(model.trace(**call).output, model(**call))
    with pytest.raises(ftwt.FtwtError, match=r"called with scale=3.0, but attach traced it"):
        runtime.skip(model)(**{**call, "scale": 3.0})


@pytest.mark.parametrize("space", [(), (3, 2)])
@pytest.mark.parametrize(
    "signal",
    [
        escalation.Margin(),
        escalation.Confidence(),
        escalation.Entropy(),
        escalation.Temperature(escalation.Margin(), 2.5),
    ],
    ids=repr,
)
def test_the_library_sends_on_what_the_policy_does(signal, space):
    logits = 3 * torch.randn(40, 5, *space)
    between = signal(logits).sort().values[19:21].mean().item()
    wanted, _ = escalation.Policy((signal,), (between,)).unsure(0, logits, 40)
    known = signal_struct(signal)
    assert known is not None
    found = unsure(known, between, logits)
    if native.available():
        assert torch.equal(found, wanted)
        assert len(found) == 20
    logits[3, 1] = float("nan")
    # The policy says it in words.
    assert unsure(known, between, logits) is None
    assert unsure(known, between, logits.double()) is None
