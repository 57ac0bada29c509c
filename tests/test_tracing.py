"""Tracing: operations in place, train and eval mode, untraceable networks, explain."""

import linecache

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import stochastic_depth

import ftwt
from ftwt import gates
from tests.laws.soundness import check
from tests.small import images

EXAMPLE = torch.zeros(1, 3, 16, 16)


def attached(network: nn.Module, **options) -> ftwt.Gated:
    pruning = ftwt.Pruning(gate=gates.Random(0.3))
    options = {"where": lambda *_: True} | options
    return ftwt.attach(network, pruning, example=EXAMPLE, **options)


class Body(nn.Module):
    """Two convolutions, whatever `between` does, and a third that reads its result."""

    def __init__(self, between) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.LazyConv2d(4, 3)
        self.between = between
        with torch.no_grad():
            self.eval()(EXAMPLE)

    def forward(self, x):
        return self.last(self.between(F.relu(self.one(x)), F.relu(self.two(x))))


def _read_under_the_old_name(x, y):
    x.add_(y)
    return torch.cat([x, y], 1)


def _old_name_after(x, y):
    old = x
    x.add_(y)
    return old * 1.5


def _a_view_made_before(x, y):
    left, right = x.chunk(2, 1)
    x.add_(y)
    return torch.cat([right, left], 1)


def _a_part_taken_after(x, y):
    parts = x.chunk(2, 1)
    x.add_(y)
    return parts[1]


def _the_view_is_changed(x, y):
    left = x[:, :4]
    left.add_(y[:, 4:])
    return x


def _zeroed_in_place(x, y):
    before = x + 0
    x.mul_(y)
    return x + before


@pytest.mark.parametrize(
    "between",
    [
        _read_under_the_old_name,
        _old_name_after,
        _a_view_made_before,
        _a_part_taken_after,
        _the_view_is_changed,
        _zeroed_in_place,
    ],
)
def test_operations_in_place_leave_the_analysis_sound(between):
    model = attached(Body(between)).eval()
    with torch.no_grad():
        trace = model.trace(images())
    masks = {name: site.mask for name, site in trace.sites.items()}
    check(model, images(), masks)
    plain = Body(between)
    model = ftwt.attach(plain, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    with torch.no_grad():
        assert torch.allclose(model(images()), plain(images()), rtol=1e-5)


def _read_after_a_sum(x, y):
    old = x
    x += y
    return old * 1.5


def _a_view_read_after_a_product(x, y):
    left = x[:, :4]
    x *= y
    return torch.cat([left, x[:, 4:]], 1)


def _written_by_index(x, y):
    before = x[:, 2:]
    x[:, 3] = y[:, 3]
    return torch.cat([before, y], 1)


@pytest.mark.parametrize(
    "between", [_read_after_a_sum, _a_view_read_after_a_product, _written_by_index]
)
def test_what_python_writes_in_place_is_written_in_place(between):
    plain = Body(between)
    model = ftwt.attach(plain, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    with torch.no_grad():
        assert torch.allclose(model(images()), plain(images()), rtol=1e-5, atol=1e-6)
    model = attached(Body(between)).eval()
    check(model, images(), model.trace(images()).masks)


def _noisy(x, y):
    return x + y * torch.rand(1)


def test_a_network_that_traces_to_another_one_is_refused():
    """torch.fx draws random numbers once, for good."""
    match = "Body answers something else when traced by torch.fx.*it draws random numbers"
    with pytest.raises(ftwt.FtwtError, match=match):
        attached(Body(_noisy))


def test_a_sum_in_place_is_followed_and_not_given_up():
    model = attached(Body(_read_under_the_old_name)).eval()
    masks = model.trace(images(2)).masks
    seen = check(model, images(2), masks)
    read = next(name for name in seen if name.startswith("cat"))
    assert seen[read].dead.any()
    assert torch.equal(seen[read].dead, seen[read].silent)


class Modes(nn.Module):
    """Functional dropout, a batch norm of the user's own and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.frozen = nn.BatchNorm2d(8).eval()
        self.norm = OwnNorm()

    def forward(self, x):
        x = F.relu(self.frozen(self.conv(x)))
        x = F.dropout(x, 0.5, self.training)
        return self.last(self.norm(x)).mean((2, 3))


class OwnNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, training=self.training)


def test_functional_calls_follow_the_mode():
    model = attached(Modes()).train()
    model.frozen.eval()
    assert not torch.equal(model(images()), model(images()))
    assert model.norm.mean.any()
    model.eval()
    before = model.norm.mean.clone()
    assert torch.equal(model(images()), model(images()))
    assert torch.equal(model.norm.mean, before)
    # One part of the network alone.
    model.norm.train()
    model(images())
    assert not torch.equal(model.norm.mean, before)
    assert model.explain().frozen == ()


def test_a_frozen_batch_norm_stays_frozen():
    network = Modes().train()
    network.frozen.eval()
    model = attached(network)
    assert model.training
    assert not model.frozen.training
    model(images())
    assert not model.frozen.running_mean.any()


def test_auxiliary_heads_are_reported():
    from torchvision.models import googlenet

    network = googlenet(weights=None, num_classes=4, init_weights=False)
    model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 64, 64)).train()
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 4)
    assert model.explain().frozen == ("GoogLeNet",)
    assert "eval mode for good: GoogLeNet" in str(model.explain())


def test_stochastic_depth_is_followed():
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.one(x)
            return x + stochastic_depth(self.two(x), 0.5, "row", self.training)

    model = attached(Deep()).train()
    assert not torch.equal(model(images()), model(images()))
    assert torch.equal(model.eval()(images()), model(images()))


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, x):
        x = torch.sinc(F.relu(self.one(x)))
        x = torch.sinc(F.relu(self.two(x)))
        return self.last(x).mean((2, 3))


def test_unknown_operations_are_reported_once_and_sound():
    model = attached(Unknown(), where=["one", "two"]).eval()
    check(model, images(), {name: site.mask for name, site in model.trace(images()).sites.items()})
    found = model.explain()
    assert found.unknown == (("sinc", 2),)
    assert found.left_out == (("last", "makes the network's output"),)
    assert str(found).count("sinc") == 1
    assert str(found).startswith("2 sites: one, two")


class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.branch, self.last = nn.Conv2d(3, 4, 3), Branching(), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.last(self.branch(F.relu(self.conv(x))))


def test_untraceable_names_the_line_and_the_leaf():
    line = Branching.forward.__code__.co_firstlineno + 1
    assert linecache.getline(__file__, line).strip() == "if x.sum() > 0:"
    match = rf"{__file__}:{line} `if x.sum\(\) > 0:`.*give leaves=\(Branching,\) to attach"
    with pytest.raises(ftwt.FtwtError, match=match) as caught:
        attached(Around())
    assert "\n" not in str(caught.value)
    model = attached(Around(), leaves=(Branching,)).eval()
    check(model, images(), {name: site.mask for name, site in model.trace(images()).sites.items()})
    assert model.explain().unknown == (("Branching", 1),)


def test_timms_vgg_traces_although_it_compares_sizes():
    timm = pytest.importorskip("timm")
    network = timm.create_model("vgg11_bn", num_classes=4, mlp_ratio=1 / 64).eval()
    example = torch.zeros(1, 3, 64, 64)
    pruning = ftwt.Pruning(gates.Fixed({}))
    batch = torch.randn(2, 3, 64, 64)
    for leaves in ((), (type(network.pre_logits),)):
        model = ftwt.attach(network, pruning, example=example, leaves=leaves, check=False)
        assert len(model.sites) >= 8
        assert torch.allclose(model(batch), network(batch), rtol=1e-4, atol=1e-6)


def test_attaching_leaves_every_random_number_to_come_as_it_was(monkeypatch):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(), nn.Conv2d(4, 4, 3))
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ftwt.attach(network, ftwt.Pruning(gates.Oracle()), example=torch.zeros(1, 3, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)
    # What CUDA begins with is the user's, too.
    assert seeds == [5]
