"""`attach`: the contract of the gated network, and bad input."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

import ftwt
from ftwt import backbones, gates, losses, targets
from tests import small
from tests.small import refused
from tests.test_attach_arguments import not_attached

EXAMPLE = torch.zeros(1, 3, 32, 32)
images = partial(small.images, side=32)


@pytest.fixture
def model() -> ftwt.Gated:
    torch.manual_seed(0)
    return ftwt.attach(backbones.resnet8(), ftwt.Pruning(), example=EXAMPLE).eval()


def test_the_contract(model):
    trace = model.trace(images())
    assert torch.equal(trace.output, model(images()))
    site = trace.sites["layer1.0.conv1"]
    assert site.mask.shape == site.logits.shape == site.target.shape == (4, 16)
    assert torch.equal(site.mask, site.logits > 0)
    assert trace.macs.shape == trace.paper_macs.shape == (4,)
    assert model.dense_macs == 12_239_488
    assert model.sites[0] == "conv1"
    assert list(trace.sites) == list(model.sites)
    assert str(ftwt.macs.table(model, trace)).count("\n") > len(model.sites)


def test_a_gate_reads_what_the_masks_left(model):
    """The site's input is masked already (equation 1 of the paper)."""
    seen = {}
    for gate in model.gates.values():
        gate.register_forward_pre_hook(
            lambda module, given: seen.update({module.site.name: given[0]})
        )
    trace = model.trace(images())
    dead = ~trace.sites["layer1.0.conv1"].mask
    assert dead.any()
    assert (seen["layer1.0.conv2"].abs().amax((2, 3))[dead] == 0).all()


def test_an_oracle_answers_with_its_target():
    torch.manual_seed(0)
    pruning = ftwt.Pruning(gates.Oracle(), targets.TopK(0.25))
    trace = ftwt.attach(backbones.resnet8(), pruning, example=EXAMPLE).eval().trace(images())
    for site in trace.sites.values():
        assert torch.equal(site.mask, site.target)
        assert (site.mask.sum(1) == round(0.25 * site.mask.shape[1])).all()


def test_an_oracle_of_active_filters_changes_nothing():
    torch.manual_seed(0)
    network = backbones.vgg16_bn().eval()
    pruning = ftwt.Pruning(gates.Oracle(), targets.Active())
    model = ftwt.attach(network, pruning, example=EXAMPLE).eval()
    assert torch.allclose(model(images()), network(images()), rtol=1e-5)


def test_fixed_masks_are_static_pruning():
    torch.manual_seed(0)
    mask = torch.arange(16) < 5
    pruning = ftwt.Pruning(gates.Fixed({"layer1.0.conv1": mask}))
    model = ftwt.attach(backbones.resnet8(), pruning, example=EXAMPLE).eval()
    trace = model.trace(images())
    assert torch.equal(trace.sites["layer1.0.conv1"].mask, mask.expand(4, 16))
    assert trace.sites["layer1.0.conv2"].mask.all()
    side, kernel = 32 * 32, 9
    assert (model.dense_macs - trace.macs == 2 * 16 * 11 * side * kernel).all()


def test_copies_are_apart_and_answer_the_same(model):
    other = copy.deepcopy(model)
    assert torch.equal(other(images()), model(images()))
    nn.init.zeros_(other.fc.weight)
    assert model.fc.weight.any()
    assert not torch.equal(other(images()), model(images()))


def test_state_dicts_go_in_and_out(model):
    plain = backbones.resnet8()
    model.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(model.conv1.weight, plain.conv1.weight)
    state = model.state_dict()
    model.load_state_dict(state)
    plain.load_state_dict({k: v for k, v in state.items() if not k.startswith("gates.")})


def test_modules_that_a_user_holds_stay_the_models_own(model):
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names))
    assert len({id(one) for one in model.parameters()}) == len(names)
    assert model.double()(images().double()).dtype == torch.float64


def test_a_module_called_twice_is_two_sites():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.last(torch.relu(self.conv(torch.relu(self.conv(x))))).mean((2, 3))

    model = ftwt.attach(Twice(), ftwt.Pruning(), example=EXAMPLE)
    assert model.sites == ("conv", "conv@2")
    assert model.dense_macs == 2 * 81 * 32 * 32 + 108 * 30 * 30


def test_shortcuts_and_outputs_are_left_out():
    from torchvision.models import resnet18, squeezenet1_1

    example = torch.zeros(1, 3, 64, 64)
    model = ftwt.attach(resnet18(weights=None), ftwt.Pruning(), example=example)
    left = {one.name for one in model.anatomy.candidates if one.left_out}
    assert left == {f"layer{n}.0.downsample.0" for n in (2, 3, 4)}
    model = ftwt.attach(squeezenet1_1(weights=None), ftwt.Pruning(), example=example)
    assert "classifier.1" not in model.sites


def test_where_picks_sites_by_name_and_module():
    def where(name: str, module: nn.Module | None) -> bool:
        return isinstance(module, nn.Conv2d) and name.endswith("conv2")

    model = ftwt.attach(backbones.resnet8(), ftwt.Pruning(), example=EXAMPLE, where=where)
    assert model.sites == ("layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2")


def test_several_inputs_come_as_a_tuple():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

        def forward(self, x, y):
            return self.two(torch.relu(self.one(x)) + torch.relu(self.one(y))).mean((2, 3))

    model = ftwt.attach(Two(), ftwt.Pruning(), example=(EXAMPLE, EXAMPLE))
    assert model(images(), images()).shape == (4, 4)
    assert model.trace(images(), images()).macs.shape == (4,)


def test_an_optimizer_step_changes_both_parts_under_the_papers_loss():
    torch.manual_seed(0)
    model = ftwt.attach(backbones.resnet8(), ftwt.Pruning(), example=EXAMPLE)
    objective = losses.CrossEntropy() + losses.GateBCE()
    report = objective(model.trace(images()), torch.tensor([0, 1, 2, 3]))
    report.total.backward()
    assert set(report.parts) == {"CrossEntropy", "GateBCE"}
    assert all(one.grad is not None for one in model.parameters())


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_bad_input(model):
    not_attached("has no 2-d convolution", nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)))
    not_attached("does not run on example of shape", example=torch.zeros(1, 1, 32, 32))
    not_attached("example has 2 tensors, but ResNet takes 1", example=(EXAMPLE, EXAMPLE))
    matched_nothing = "where= matched nothing; the candidates are conv1, layer1.0.conv1"
    not_attached(matched_nothing, where=lambda name, _: name == "conv9")
    not_attached("has gates already", model)
    not_attached("network is a str; give a torch.nn.Module", "resnet")
    not_attached("does not trace with torch.fx", Branching())
    few = ftwt.Pruning(gates.Fixed({"conv1": [True] * 8}))
    not_attached("mask for 'conv1' has 8 channels, but the site has 16 filters", pruning=few)
    stray = ftwt.Pruning(gates.Fixed({"conv9": [True] * 16}))
    not_attached("has a mask for 'conv9', which is no site; the sites are conv1", pruning=stray)
    refused("2 inputs came, but the network was attached with 1", model, images(), images())
    rows = gates.Fixed({"conv1": torch.ones(2, 16, dtype=torch.bool)})
    static = ftwt.attach(backbones.resnet8(), ftwt.Pruning(rows), example=EXAMPLE)
    refused("has 2 rows, but the batch has 4 samples", static, images())


class Named(nn.Module):
    """Plain tensors and constants in forward, and a convolution of a chosen name."""

    def __init__(self, name: str):
        super().__init__()
        self.mean, self.last = torch.ones(1, 3, 1, 1), nn.Conv2d(8, 4, 3)
        self.add_module(name, nn.Conv2d(3, 8, 3))
        self.first = name

    def forward(self, x):
        first = getattr(self, self.first)
        return self.last(torch.relu(first((x - self.mean) * torch.tensor(2.0)))).mean((2, 3))


def test_plain_tensors_and_constants_of_a_network_come_along():
    torch.manual_seed(0)
    network = Named("conv").eval()
    pruning = ftwt.Pruning(gates.Fixed({}))
    model = ftwt.attach(network, pruning, example=EXAMPLE, where=lambda *_: True)
    assert torch.allclose(model(images()), network(images()))
    assert set(model.state_dict()) == set(network.state_dict())


@pytest.mark.parametrize("name", ["trace", "sites", "gates", "keys", "anatomy"])
def test_names_that_the_gated_network_needs(name):
    not_attached(f"has an attribute named '{name}'", Named(name), where=lambda *_: True)


def test_losses_say_what_they_need(model):
    trace = model.trace(images(), targets=False)
    refused("the trace holds no targets", losses.GateBCE(), trace)
    refused("called without labels", losses.CrossEntropy(), trace)
    refused("no gradient reaches the gates", losses.MacBudget(0.5), trace)
    pruning = ftwt.Pruning(gates.Oracle())
    oracle = ftwt.attach(backbones.resnet8(), pruning, example=EXAMPLE)
    refused("oracles, which have no logits", losses.GateBCE(), oracle.trace(images()))
