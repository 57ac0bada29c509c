"""Arguments of `attach` and `Pruning` that are of another kind than they take: one clear line."""

import pytest
import torch
from torch import nn

import ftwt
from ftwt import backbones, gates, targets
from tests.small import refused

EXAMPLE = torch.zeros(1, 3, 32, 32)


def not_attached(match: str, network: nn.Module | None = None, **options) -> None:
    given = {"pruning": ftwt.Pruning(), "example": EXAMPLE} | options
    refused(match, ftwt.attach, network or backbones.resnet8(), **given)


@pytest.mark.parametrize(
    ("example", "match"),
    [
        ([EXAMPLE], "example is a list; give an input of the network, such as torch.zeros"),
        ((1, 3, 32, 32), "example holds 1; give an input of the network"),
        (EXAMPLE.shape, "example holds 1; give an input of the network"),
        ((), "example is an empty tuple; give an input"),
        (None, "example is a NoneType; give an input"),
        (EXAMPLE.numpy(), "example is a ndarray; give an input"),
        (torch.tensor(1.0), r"example has shape \(\), which holds no sample; give at least one"),
        (EXAMPLE[:0], r"example has shape \(0, 3, 32, 32\), which holds no sample"),
        (EXAMPLE.to("meta"), r"the example is on meta, but ResNet is on cpu; move one of them"),
    ],
)
def test_examples(example, match):
    not_attached(match, example=example)


@pytest.mark.parametrize(
    ("where", "match"),
    [
        (lambda name: True, "called with a name and a module, which its function does not take"),
        (5, "where=5 picks nothing; give a function of name and module, or a list of names"),
        ("conv1", "where='conv1' is one string; give a list of names"),
        ([], "no site in ResNet; where= matched nothing; the candidates are conv1, layer1.0.conv1"),
        (["layer1.0.conv3"], "has no convolution 'layer1.0.conv3'; did you mean layer1.0.conv"),
        (["zzz"], "has no convolution 'zzz'; the candidates are conv1"),
    ],
)
def test_where(where, match):
    not_attached(match, where=where)


def test_where_as_any_function_of_two():
    class Picks:
        def __call__(self, name, module=None):
            return name == "conv1"

    for where in (Picks(), lambda *both: both[0] == "conv1", {"conv1"}, ("conv1",)):
        model = ftwt.attach(backbones.resnet8(), ftwt.Pruning(), example=EXAMPLE, where=where)
        assert model.sites == ("conv1",)


@pytest.mark.parametrize("leaves", [nn.ReLU, [nn.ReLU], (nn.ReLU(),), ("ReLU",), None])
def test_leaves(leaves):
    not_attached("is no tuple of module types; give leaves=", leaves=leaves)


def test_pruning_that_is_none():
    not_attached("pruning is the class Pruning itself; give an instance", pruning=ftwt.Pruning)
    not_attached("pruning is None; give an instance, such as ftwt.Pruning", pruning=None)
    not_attached(r"pruning is PooledLinear\(", pruning=gates.PooledLinear())


@pytest.mark.parametrize(
    ("name", "part"),
    [("gate", gates.PooledLinear), ("target", targets.HeatmapMass), ("estimator", gates.Hard)],
)
def test_a_class_for_an_instance_in_pruning(name, part):
    match = rf"Pruning: {name} is the class {part.__name__}; give an instance"
    refused(match, ftwt.Pruning, **{name: part})


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x, y):
        return self.conv(x) + self.conv(y)


def test_too_few_inputs():
    not_attached("has 1 tensor, but TwoInputs takes 2 .x, y.; give a tuple", TwoInputs())
    both = ftwt.attach(TwoInputs(), ftwt.Pruning(), example=(EXAMPLE, EXAMPLE), where=["conv"])
    assert both(EXAMPLE, EXAMPLE).shape == (1, 8, 30, 30)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_cannot_be_copied():
    old = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Conv2d(8, 4, 3))
    not_attached("Sequential cannot be copied .*use torch.nn.utils.parametrizations", old)

    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.made = (name for name in "ab")

        def forward(self, x):
            return self.conv(x)

    not_attached("Held cannot be copied .*give a network that copy.deepcopy takes", Held())


def test_weight_norm_by_parametrization_is_a_site_as_any_other():
    new = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
    network = nn.Sequential(new, nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    assert model.sites == ("0",)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(images), network(images), atol=1e-6)
    assert model.dense_macs == 30 * 30 * 27 * 8 + 28 * 28 * 72 * 4
