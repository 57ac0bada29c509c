"""Laws of cutting: the same outputs as with masks, for exactly the MACs that were counted."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import ftwt
from ftwt import FtwtError, gates
from ftwt.slicing import cut
from tests.laws.networks import backbone, examples, images, networks, random_masks

shares = st.sampled_from([-1.0, 0.1, 0.5, 0.9, 2.0])


def cut_and_masked(network, batch, seed, share, *, fold, where=lambda *_: True, round_to=None):
    """The cut network, the one with the same masks, and what the latter costs."""
    pruning = ftwt.Pruning(gates.Fixed({}))
    plain = ftwt.attach(network, pruning, example=batch[:1], where=where, check=False)
    masks = {name: mask[0] for name, mask in random_masks(plain, 1, seed, share).items()}
    masked = ftwt.attach(
        network, ftwt.Pruning(gates.Fixed(masks)), example=batch[:1], where=where
    ).eval()
    small = cut(masked, masks, fold=fold, round_to=round_to)
    macs = masked.anatomy.plan.total({name: mask[None] for name, mask in masks.items()})
    return small, masked, macs


def torch_macs(network, example) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(example[:1])
    return counter.get_total_flops() // 2


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


class Functional(nn.Module):
    """A convolution without a module, and a batch norm without one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        norm = self.norm
        x = F.conv2d(x, self.weight)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return self.fc(torch.relu(x).mean((2, 3)))


class ChangedInPlace(nn.Module):
    """A view is changed, and the whole is read after that."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        half = x[:, :2]
        half.mul_(2)
        return self.last(x).mean((2, 3))


class Written(nn.Module):
    """A channel is overwritten through a view."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x.select(1, 1).copy_(x[:, 0] + 1)
        return self.last(x).mean((2, 3))


class WeightRead(nn.Module):
    """The weight of a layer is looked at, and used once more."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.norm(self.conv(x.to(self.conv.weight.dtype))).relu()
        return self.last(x) * self.conv.weight.std() + self.last.bias.view(1, -1, 1, 1)


class NormAct(nn.BatchNorm2d):
    """A batch norm with something of its own inside, as other libraries have them."""

    def forward(self, x):
        return F.silu(super().forward(x))


class Subclassed(nn.Module):
    """A convolution and a linear layer with a forward of their own."""

    class Conv(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight * 2, self.bias)

    class Linear(nn.Linear):
        def forward(self, x):
            return super().forward(x) + x.sum(1, keepdim=True)

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = self.Conv(3, 4, 3), NormAct(4), self.Linear(4, 2)

    def forward(self, x):
        return self.last(self.norm(self.conv(x)).mean((2, 3)))


class Standardised(nn.Module):
    """Weights that are computed, shared and frozen; a norm of the batch's own statistics."""

    def __init__(self):
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.gamma = nn.PReLU(4), nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        x = x + self.gamma * self.shared(self.shared(x))
        weight = self.shared.weight
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(F.leaky_relu(x, 0.1, inplace=True), weight)


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.conv.register_forward_hook(_answer_more)
        self.last.register_forward_pre_hook(_read_more)

    def forward(self, x):
        return self.last(self.conv(x).relu())


def _answer_more(module, args, answer):
    return answer + 1


def _read_more(module, args):
    return (args[0] + 1,)


class Sizes(nn.Module):
    """Pools, slices and a classifier for any size of image."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(2)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.conv(x).relu()
        wide = F.interpolate(self.pool(x), size=x.shape[2:])
        x = torch.cat([x[:, :, ::2, ::2], F.pad(wide, (1, 1, 1, 1))[:, :, 1:-1:2, 1:-1:2]], 1)
        return self.last(x).mean((2, 3))


ODD = (
    Functional, ChangedInPlace, Written, WeightRead, Subclassed, Standardised, Hooked, Sizes,
)  # fmt: skip


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "with norms"])
@pytest.mark.parametrize("kind", ODD)
def test_what_is_written_in_other_ways(kind, fold):
    torch.manual_seed(0)
    network = kind()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -1, 1)
            if module.running_mean is not None:
                module.running_mean.uniform_(-0.5, 0.5)
    batch = torch.randn(3, 3, 8, 8)
    for share in (0.5, 2.0):
        small, masked, _ = cut_and_masked(network.eval(), batch, 1, share, fold=fold)
        with torch.no_grad():
            assert torch.allclose(small(batch), masked(batch), rtol=1e-4, atol=1e-5)
            if kind is Sizes:
                larger = torch.randn(2, 3, 14, 12)
                assert torch.allclose(small(larger), masked(larger), rtol=1e-4, atol=1e-5)
            renumbered, masked, _ = cut_and_masked(
                network.eval(), batch, 1, share, fold=fold, round_to=1
            )
            assert torch.allclose(renumbered(batch), masked(batch), rtol=1e-4, atol=1e-5)


def test_norms_of_timm_keep_their_activation():
    layers = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), layers.BatchNormAct2d(8), nn.Conv2d(8, 8, 3, groups=8),
        layers.BatchNormAct2d(8, act_layer=nn.SiLU), nn.Conv2d(8, 4, 3),
    ).eval()  # fmt: skip
    for norm in (network[1], network[3]):
        nn.init.uniform_(norm.bias, -1, 1)
    batch = torch.randn(2, 3, 12, 12)
    for fold in (True, False):
        small, masked, macs = cut_and_masked(network, batch, 0, 0.5, fold=fold)
        with torch.no_grad():
            assert torch.allclose(small(batch), masked(batch), atol=1e-5)
        assert torch_macs(small, batch) == macs.item()


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
    with pytest.raises(FtwtError, match="cut: round_to is 0; give the whole number whose"):
        cut(model, masks, round_to=0)
    with pytest.raises(FtwtError, match="'conv9' is no site; the sites are conv1, "):
        cut(model, masks | {"conv9": torch.ones(16).bool()})
