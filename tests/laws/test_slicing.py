"""Laws of cutting: the same outputs as with masks, for exactly the MACs that were counted."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, reject
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import ftwt
from ftwt import FtwtError, gates
from ftwt.slicing import cut
from tests.laws.networks import backbone, images, networks, random_masks

REFUSED = ("it changes in place what", "its weights belong to no module")
shares = st.sampled_from([-1.0, 0.1, 0.5, 0.9, 2.0])


def cut_and_masked(network, batch, seed, share, *, fold, where=lambda *_: True):
    """The cut network, the one with the same masks, and what the latter costs."""
    plain = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=batch[:1], where=where)
    masks = {name: mask[0] for name, mask in random_masks(plain, 1, seed, share).items()}
    masked = ftwt.attach(
        network, ftwt.Pruning(gates.Fixed(masks)), example=batch[:1], where=where
    ).eval()
    try:
        small = cut(masked, masks, fold=fold)
    except FtwtError as error:
        # What is refused is named; nothing else may be.
        if not any(reason in str(error) for reason in REFUSED):
            raise
        reject()
    macs = masked.anatomy.plan.total({name: mask[None] for name, mask in masks.items()})
    return small, masked, macs


def torch_macs(network, example) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(example[:1])
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "with norms"])
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


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(nn.functional.conv2d(x, self.weight))
        return self.fc(x.mean((2, 3)))


class ChangedInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        half = x[:, :2]
        half.mul_(2)
        return self.last(x).mean((2, 3))


def masked_half(network):
    model = ftwt.attach(
        network, ftwt.Pruning(gates.Fixed({})), example=torch.zeros(1, 3, 8, 8),
        where=lambda name, _: not name.startswith("last"),
    ).eval()  # fmt: skip
    return model, {model.sites[0]: torch.tensor([True, False, True, False])}


def test_what_cannot_be_cut_is_named():
    with pytest.raises(FtwtError, match=r"cannot cut conv2d \(conv2d\): its weights belong to no"):
        cut(*masked_half(Functional()))
    with pytest.raises(FtwtError, match=r"cannot cut mul_ \(mul_\): it changes in place what last"):
        cut(*masked_half(ChangedInPlace()))


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
    with pytest.raises(FtwtError, match="'conv9' is no site; the sites are conv1, "):
        cut(model, masks | {"conv9": torch.ones(16).bool()})
