"""What is not what it looks like: subclasses, hooks, divisions by zero, what nobody counts."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import gates
from ftwt.graph.live import Evaluator
from tests.laws.soundness import check
from tests.small import images

EXAMPLE = torch.zeros(1, 3, 16, 16)


class Chain(nn.Module):
    """A convolution, something in the middle, and a convolution that reads it."""

    def __init__(self, middle: nn.Module, channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.act, self.middle = nn.Conv2d(3, 8, 3), nn.ReLU(), middle
        self.two = nn.Conv2d(channels, 4, 3)

    def forward(self, x):
        return self.two(self.middle(self.act(self.one(x))))


def attached(network: nn.Module, **options) -> ftwt.Gated:
    pruning = ftwt.Pruning(gate=gates.Random(0.3))
    return ftwt.attach(network, pruning, example=EXAMPLE, where=["one"], **options).eval()


def dead_of(model: ftwt.Gated) -> torch.Tensor:
    """What the last convolution reads is dead, after a check that it is zero."""
    found = check(model, images(), model.trace(images()).masks)
    return list(found.values())[-1].dead


class OnePlus(nn.ReLU):
    def forward(self, x):
        return 1 + F.relu(x)


class PoolPlus(nn.MaxPool2d):
    def forward(self, x):
        return 1 + super().forward(x)


class Plain(nn.ReLU):
    """A subclass that changes nothing."""


class Depthwise(nn.Conv2d):
    def forward(self, x):
        return 1 + super().forward(x)


@pytest.mark.parametrize(
    "middle", [OnePlus(), PoolPlus(2), Depthwise(8, 8, 3, groups=8, bias=False)], ids=repr
)
def test_a_subclass_with_a_forward_of_its_own_is_unknown(middle):
    model = attached(Chain(middle), leaves=(type(middle),))
    assert not dead_of(model).any()
    assert model.explain().unknown == ((type(middle).__name__, 1),)
    # Such a convolution is no site either: nobody knows what its filters are.
    assert {one.name for one in model.anatomy.candidates} == {"one", "two"}


def test_a_forward_put_on_the_module_itself_is_unknown():
    assert not dead_of(attached(Chain(patched(nn.ReLU())))).any()


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda module, given, made: made + 1)
    return module


def patched(module: nn.Module) -> nn.Module:
    plain = module.forward
    module.forward = lambda x: 1 + plain(x)
    return module


@pytest.mark.parametrize(
    "change", [hooked, patched], ids=["forward hook", "forward of the module's own"]
)
@pytest.mark.parametrize(
    "kind",
    [
        nn.ReLU,
        nn.Identity,
        nn.Dropout,
        lambda: nn.MaxPool2d(2),
        lambda: nn.AdaptiveAvgPool2d(7),
        lambda: nn.BatchNorm2d(8),
        lambda: nn.Conv2d(8, 8, 3, groups=8, bias=False),
    ],
    ids=["relu", "identity", "dropout", "pool", "adaptive", "norm", "depthwise"],
)
def test_skipping_answers_as_the_model_whatever_a_module_became(kind, change):
    model = attached(Chain(change(kind().eval())))
    assert not dead_of(model).any()
    with torch.no_grad():
        assert torch.allclose(ftwt.runtime.skip(model)(images()), model(images()), atol=1e-5)


def test_a_subclass_that_changes_nothing_is_trusted():
    assert dead_of(attached(Chain(Plain()), leaves=(Plain,))).any()
    assert dead_of(attached(Chain(nn.ReLU()))).any()


def test_a_module_with_a_forward_hook_is_unknown_and_reported():
    model = attached(Chain(hooked(nn.ReLU())))
    assert not dead_of(model).any()
    assert model.explain().unknown == (("ReLU with a forward hook", 1),)


def test_macs_count_every_input_of_a_convolution_whose_hook_may_change_it():
    network = Chain(nn.ReLU())
    network.two.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    model = attached(network)
    layer = next(one for one in model.anatomy.plan.layers if one.name == "two")
    masks = model.trace(images()).masks
    assert (model.anatomy.plan.exact(masks)["two"] == layer.dense_macs).all()


def test_hooks_that_tracing_leaves_behind_are_reported():
    seen = []
    network = Chain(nn.Sequential(nn.ReLU(), nn.ReLU()))
    network.middle.register_forward_hook(lambda *_: seen.append(1))
    model = attached(network)
    seen.clear()
    model(images())
    assert not seen
    assert model.explain().hooks == ("middle",)
    assert "forward hook: middle was traced into" in str(model.explain())


class Quotient(nn.Module):
    def __init__(self, small: float) -> None:
        super().__init__()
        self.small = small

    def forward(self, x):
        return x * (1.0 / (x + self.small if self.small else x))


class Norm(nn.Module):
    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean((2, 3), keepdim=True).clamp(min=1e-3))


class BareNorm(nn.Module):
    def forward(self, x):
        return x * x.pow(2).mean((2, 3), keepdim=True).pow(-0.5)


class InPlace(nn.Module):
    def forward(self, x):
        divisor = x + 1
        divisor.mul_(x)
        return x * torch.reciprocal(divisor)


@pytest.mark.parametrize(
    ("middle", "name"),
    [(Quotient(0.0), "truediv"), (BareNorm(), "pow_2"), (InPlace(), "reciprocal")],
)
def test_a_product_with_what_may_be_infinite_has_no_zeros(middle, name):
    """Zero times infinity is not a number: masks that make a divisor zero make that."""
    model = attached(Chain(middle))
    assert model(images()).isnan().any()
    source = model.anatomy.candidates[-1].convolution.args[0]
    masks = model.trace(images()).masks
    live = Evaluator(masks, masks["one"])(model.anatomy.liveness.channels(source))
    assert live.all()
    assert model.explain().divisions == (name,)
    assert f"{name} answers infinity or NaN where masks make the divisor zero" in str(
        model.explain()
    )


@pytest.mark.parametrize("middle", [Quotient(0.1), Norm()], ids=["quotient", "norm"])
def test_a_divisor_that_is_kept_from_zero_is_followed(middle):
    model = attached(Chain(middle))
    assert dead_of(model).any()
    assert model.explain().divisions == ()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        tokens, _ = self.inner(tokens, tokens, tokens)
        tokens = F.scaled_dot_product_attention(tokens, tokens, tokens)
        return tokens.transpose(1, 2).reshape(x.shape)


def test_attention_is_counted():
    model = attached(Chain(Attention()))
    positions, width = 14 * 14, 8
    module = positions * width * 4 * width + 2 * positions * positions * width
    alone = 2 * positions * positions * width
    first, last = positions * 27 * 8, 12 * 12 * 9 * 8 * 4
    assert model.dense_macs == first + module + alone + last
    assert model.explain().uncounted == ()
    # The setting that makes it so is put back.
    assert torch.backends.mha.get_fastpath_enabled()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.LSTM(8, 8, batch_first=True), nn.LayerNorm((8, 14, 14))

    def forward(self, x):
        x = self.norm(x)
        rows = self.inner(x.flatten(2).transpose(1, 2))[0]
        return rows.transpose(1, 2).reshape(x.shape)


def test_what_the_counter_does_not_know_is_reported():
    found = attached(Chain(Recurrent())).explain()
    assert found.uncounted == ("middle.inner",)
    assert "not counted: middle.inner" in str(found)


class OtherRanks(nn.Module):
    """Convolutions of one and three dimensions beside those of two."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.line, self.volume = nn.Conv1d(8, 8, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.one(x))
        x = self.line(x.flatten(2)).reshape(x.shape)
        return self.two(self.volume(x.unsqueeze(1)).squeeze(1))


def test_only_2d_convolutions_have_gates_and_the_others_count_in_full():
    model = attached(OtherRanks())
    assert {one.name for one in model.anatomy.candidates} == {"one", "two"}
    none = {"one": torch.zeros(1, 8, dtype=torch.bool)}
    exact = model.anatomy.plan.exact(none)
    assert exact["line"].item() == 14 * 14 * 8 * 8 * 3
    assert exact["volume"].item() == 8 * 14 * 14 * 27
    check(model, images(), model.trace(images()).masks)
