"""Networks that are written in other ways than by modules, one after the other, are cut too."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.laws.networks import torch_macs
from tests.laws.slicing import cut_and_masked


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
