"""Laws of cutting: the same outputs as with masks, for exactly the MACs that were counted."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import FtwtError, gates
from ftwt.slicing import cut
from tests.laws.networks import backbone, examples, images, networks, torch_macs
from tests.laws.slicing import cut_and_masked
from tests.small import refused

shares = st.sampled_from([-1.0, 0.1, 0.5, 0.9, 2.0])


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "with norms"])
@examples(0.4)
@given(networks(), images(), st.integers(0, 2**16), shares)
def test_a_cut_network_answers_as_the_masked_one_for_what_was_counted(
    fold, network, batch, seed, share
):
    small, masked, macs = cut_and_masked(network, batch, seed, share, fold=fold)
    before = batch.clone()
    with torch.no_grad():
        expected, answer = masked(batch), small(batch)
        again = small(batch)
    assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert torch.equal(answer, again)
    assert torch.equal(batch, before)
    assert torch_macs(small, batch) == macs.item()


@examples(0.4)
@given(networks(), images(), st.integers(0, 2**16), shares, st.sampled_from([1, 3]), st.booleans())
def test_renumbered_channels_answer_the_same(network, batch, seed, share, round_to, fold):
    small, masked, _ = cut_and_masked(network, batch, seed, share, fold=fold, round_to=round_to)
    with torch.no_grad():
        expected, answer = masked(batch), small(batch)
    assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert torch_macs(small, batch) <= masked.dense_macs


@examples(0.25)
@given(networks(), images(), st.integers(0, 2**16))
def test_a_cut_network_is_plain_and_smaller(network, batch, seed):
    small, masked, _ = cut_and_masked(network, batch, seed, 0.5, fold=True)
    assert not any("gate" in name for name in small.state_dict())
    weights = sum(one.numel() for one in small.parameters())
    assert weights <= sum(one.numel() for one in masked.parameters()) + _biases(small)


def _biases(network: nn.Module) -> int:
    """Folding a batch norm may give a convolution a bias that it had not."""
    return sum(m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(
    "name",
    ["cifar10-resnet8", "cifar10-mobilenet_v1-x0.25", "cifar10-mobilenet_v2-x0.25",
     "torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:vgg11_bn",
     "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5"],
)  # fmt: skip
def test_backbones(name):
    network, batch = backbone(name)
    small, masked, macs = cut_and_masked(network, batch, 0, 0.5, fold=True, where=None)
    with torch.no_grad():
        expected, answer = masked(batch), small(batch)
    assert (answer - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch_macs(small, batch) == macs.item() < masked.dense_macs


RENUMBERED = (
    "cifar10-resnet8", "cifar10-mobilenet_v2-x0.25", "torchvision:resnet18",
    "torchvision:mobilenet_v3_small",
)  # fmt: skip


@pytest.mark.parametrize("name", RENUMBERED)
def test_a_renumbered_network_has_the_operations_of_the_whole_one(name):
    network, batch = backbone(name)
    for round_to in (1, 8):
        small, masked, macs = cut_and_masked(
            network, batch, 0, 0.5, fold=True, where=None, round_to=round_to
        )
        with torch.no_grad():
            expected, answer = masked(batch), small(batch)
        assert (answer - expected).abs().max() <= 1e-5 * expected.abs().max()
        every = {
            name: torch.ones(len(mask[0]), dtype=torch.bool)
            for name, mask in masked.pruning.gate.masks.items()
        }
        whole = cut(masked, every)
        assert operations_of(small) == operations_of(whole)
        assert macs.item() <= torch_macs(small, batch) < masked.dense_macs
        for name, layer in small.named_modules():
            if isinstance(layer, nn.Conv2d):
                width, most = layer.out_channels, whole.get_submodule(name).out_channels
                assert width == most or width % round_to == 0


def operations_of(network) -> list[type | object]:
    """What the graph of a network calls, in order."""
    modules = dict(network.named_modules())
    calls = [one for one in network.graph.nodes if one.op.startswith("call_")]
    return [type(modules[one.target]) if one.op == "call_module" else one.target for one in calls]


def test_weights_are_the_models_own_also_of_a_copy():
    import copy

    model = ftwt.attach(
        ftwt.backbones.resnet8(), ftwt.Pruning(gates.Fixed({})), example=torch.zeros(1, 3, 32, 32)
    ).eval()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.fc.bias += 1
    masks = {
        gate.site.name: torch.ones(gate.site.out_channels).bool() for gate in model.gates.values()
    }
    batch = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(cut(other, masks)(batch), cut(model, masks)(batch) + 1, atol=1e-5)


def test_an_unfolded_network_follows_the_mode_and_trains():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.drop, self.last = (
                nn.Conv2d(3, 8, 3),
                nn.Dropout(0.5),
                nn.Conv2d(8, 4, 1),
            )
            self.gamma = nn.Parameter(torch.ones(4))

        def forward(self, x):
            x = F.dropout(self.drop(self.conv(x).relu()), 0.5, self.training)
            return self.last(x) * self.gamma.reshape(1, -1, 1, 1)

    network = Dropped().eval()
    network.last.bias.requires_grad_(False)
    small, masked, _ = cut_and_masked(network, torch.randn(2, 3, 8, 8), 0, 0.5, fold=False)
    batch = torch.randn(2, 3, 8, 8)
    assert torch.allclose(small(batch), masked(batch), atol=1e-5)
    small.train()
    assert not torch.equal(small(batch), small(batch))
    small(batch).sum().backward()
    grads = {name: one.grad is not None for name, one in small.named_parameters()}
    assert grads == {name: name != "last.bias" for name, _ in network.named_parameters()}


def test_gates_are_not_asked():
    batch = torch.randn(2, 3, 8, 8)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    model = ftwt.attach(network, ftwt.Pruning(gates.Oracle()), example=batch[:1]).eval()
    small = cut(model, {"0": torch.ones(4, dtype=torch.bool)})
    assert torch.allclose(small(batch), network(batch), atol=1e-5)


def test_masks_that_are_fixed_need_not_be_given():
    batch = torch.randn(2, 3, 8, 8)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    masks = {"0": torch.tensor([True, False, True, False])}
    pruning = ftwt.Pruning(gates.Fixed({"0": masks["0"][None]}))
    model = ftwt.attach(network, pruning, example=batch[:1]).eval()
    small = cut(model)
    assert small.get_submodule("0").out_channels == 2
    assert torch.allclose(small(batch), model(batch), atol=1e-5)
    asking = ftwt.attach(network, ftwt.Pruning(), example=batch[:1]).eval()
    refused("masks of 1 of 1 sites go by the input, that of '0'", cut, asking)


def test_bad_masks_are_refused():
    model = ftwt.attach(
        ftwt.backbones.resnet8(), ftwt.Pruning(gates.Fixed({})), example=torch.zeros(1, 3, 32, 32)
    )
    masks = {
        gate.site.name: torch.ones(gate.site.out_channels).bool() for gate in model.gates.values()
    }
    with pytest.raises(FtwtError, match="no mask for site 'conv1'"):
        cut(model, {name: mask for name, mask in masks.items() if name != "conv1"})
    with pytest.raises(FtwtError, match=r"mask for 'conv1' is torch.bool of shape \(3,\)"):
        cut(model, masks | {"conv1": torch.ones(3).bool()})
    refused("cut: round_to is 0; give the whole number whose", cut, model, masks, round_to=0)
    with pytest.raises(FtwtError, match="'conv9' is no site; the sites are conv1, "):
        cut(model, masks | {"conv9": torch.ones(16).bool()})
