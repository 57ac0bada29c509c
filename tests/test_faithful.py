"""The traced network is the network that was given: what tracing could lose, and keeps."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import gates, losses, runtime, slicing
from tests import small
from tests.small import images, refused

EXAMPLE = torch.zeros(1, 3, 16, 16)


class Two(nn.Module):
    """Two convolutions; `forward` is the test's."""

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, 8))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(8))
        self.run = (forward,)

    def forward(self, x):
        return self.run[0](self, x)


def attached(forward: Callable[..., torch.Tensor], **options) -> tuple[nn.Module, ftwt.Gated]:
    """The plain network and the gated one, with every filter on."""
    network = Two(forward)
    return network, ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE, **options)


def no_grad_stem(self, x):
    with torch.no_grad():
        x = F.relu(self.norm(self.one(x)))
    return self.two(x)


def inference_in_between(self, x):
    with torch.inference_mode():
        scale = self.one(x).abs().amax()
    return self.two(F.relu(self.one(x)) / (1 + scale.clone()))


def set_off_and_on(self, x):
    torch.set_grad_enabled(False)
    x = F.relu(self.one(x))
    torch.set_grad_enabled(True)
    return self.two(x)


@torch.no_grad()
def _frozen(self, x):
    return F.relu(self.one(x))


def decorated(self, x):
    return self.two(_frozen(self, x) * self.gain[:, None, None])


def half_inside(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = self.one(x)
    return self.two(F.relu(x.float()))


@torch.autocast("cpu", dtype=torch.bfloat16)
def _half(self, x):
    y = F.relu(self.one(x))
    with torch.autocast("cpu", enabled=False):
        y = y.float() * self.gain[:, None, None]
    return self.two(y)


def half_and_off_again(self, x):
    return _half(self, x).float()


def counted(self, x):
    self.steps += 1
    return self.two(F.relu(self.one(x)))


def counted_anew(self, x):
    self.steps = self.steps + 2
    return self.two(F.relu(self.one(x)))


def running_mean(self, x):
    x = F.relu(self.one(x))
    with torch.no_grad():
        self.mean.mul_(0.9).add_(0.1 * x.mean((0, 2, 3)))
    return self.two(x - self.mean[:, None, None])


def chunks(self, x):
    left, *more = self.one(x).relu().chunk(4, 1)
    return self.two(torch.cat([part * (i + 1) for i, part in enumerate([left, *more])], 1))


def zipped(self, x):
    y = F.relu(self.one(x))
    pairs = zip(y.split(4, 1), y.flip(1).split(4, 1), strict=True)
    return self.two(torch.cat([one + two for one, two in pairs], 1))


def unbound(self, x):
    y = F.relu(self.one(x))
    return self.two(torch.stack([row * 2 for row in torch.unbind(y, 1)], 1))


def tensor_split(self, x):
    return self.two(torch.cat(list(reversed(F.relu(self.one(x)).tensor_split(3, dim=1))), 1))


def ranged(self, x):
    y = F.relu(self.one(x))
    return self.two(torch.stack([y[:, c] for c in range(y.shape[1])], 1))


def ranged_in_a_helper(self, x):
    """A helper's file is none that a forward is written in."""
    return self.two(small.reversed_channels(F.relu(self.one(x))))


def asserted(self, x):
    assert x.dim() == 4
    assert x.shape[1] == 3, "colour images"
    if x.shape[-1] % 4 or len(x.shape) != 4:
        raise ValueError(f"sides must be multiples of 4, not {x.shape}")
    b, c, h, w = x.shape
    assert int(h / 2) * 2 == h
    return self.two(F.relu(self.one(x.reshape(b, c, h, w))))


def into_a_module(self, x):
    return self.two(F.relu(self.norm(self.one(x))) * nn.Sigmoid()(self.gain.view(1, -1, 1, 1)))


def dropped(self, x):
    return self.two(F.dropout(F.relu(self.one(x)), 0.5, training=self.training))


KEPT = [
    no_grad_stem, inference_in_between, set_off_and_on, decorated, half_inside, half_and_off_again,
    counted, counted_anew, running_mean, chunks, zipped, unbound, tensor_split, ranged, asserted,
    ranged_in_a_helper, into_a_module, dropped,
]  # fmt: skip


def passed(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict, dict]:
    torch.manual_seed(3)
    output = network(x)
    network.zero_grad()
    output.square().sum().backward()
    return (
        output.detach(),
        {name: one.grad for name, one in network.named_parameters()},
        dict(network.named_buffers()),
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("forward", KEPT)
def test_outputs_gradients_and_buffers_are_the_plain_networks(forward, training):
    network, model = attached(forward)
    assert not network.steps.any()
    for _ in range(2):
        output, gradients, buffers = passed(network.train(training), images())
        mine, others, after = passed(model.train(training), images())
        assert torch.allclose(mine, output, rtol=1e-4, atol=1e-5)
        for name, gradient in gradients.items():
            assert (others[name] is None) == (gradient is None), name
            assert gradient is None or torch.allclose(others[name], gradient, rtol=1e-3, atol=1e-4)
        for name, buffer in buffers.items():
            assert torch.allclose(after[name], buffer), name
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("forward", [no_grad_stem, chunks, ranged, asserted, counted])
def test_they_are_skipped_as_they_are(forward):
    model = ftwt.attach(Two(forward), ftwt.Pruning(gates.Random(0.4)), example=EXAMPLE).eval()
    with torch.no_grad():
        want = model(images())
    for backend in ("torch", "native"):
        assert torch.allclose(runtime.skip(model, backend=backend)(images()), want, atol=1e-5)


def test_gates_learn_where_the_network_does_not():
    model = ftwt.attach(Two(no_grad_stem), ftwt.Pruning(), example=EXAMPLE)
    losses.GateBCE()(model.trace(images())).backward()
    assert all(one.grad is not None for one in model.gate_parameters())
    assert model.one.weight.grad is None


def test_a_failing_pass_leaves_the_gradient_mode_as_it_was():
    _, model = attached(no_grad_stem)
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 5, 16, 16))
    assert torch.is_grad_enabled()


def table(self, x):
    if not hasattr(self, "grid"):
        self.grid = torch.linspace(0, 1, 8)[:, None, None]
    return self.two(F.relu(self.one(x)) * self.grid)


def test_what_is_kept_for_good_is_no_difference():
    network, model = attached(table)
    assert torch.allclose(model(images()), network(images()), atol=1e-6)


class Auxiliary(nn.Module):
    """A second head, in training mode only, which draws random numbers and keeps statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
        self.head = nn.Sequential(nn.Dropout(), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))
        self.drop = nn.Dropout()

    def forward(self, x):
        x = F.relu(self.one(x))
        aux = self.head(x) if self.training else None
        x = self.two(self.drop(x))
        return (x, aux) if self.training else x


def test_auxiliary_heads_of_training_mode_are_left_out_with_a_note():
    model = ftwt.attach(Auxiliary(), ftwt.Pruning(gates.Fixed({})), example=EXAMPLE).train()
    assert model.explain().frozen == ("Auxiliary",)
    assert model(images()).shape == (4, 4, 14, 14)


class PartlyScripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
        self.between = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()))

    def forward(self, x):
        return self.two(self.between(F.relu(self.one(x))))


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_part_stays_whole_and_lets_the_others_be_cut():
    network = PartlyScripted().eval()
    masks = {"one": torch.arange(8) < 5}
    pruning = ftwt.Pruning(gates.Fixed({"one": masks["one"][None]}))
    model = ftwt.attach(network, pruning, example=EXAMPLE).eval()
    assert torch.allclose(slicing.cut(model, masks)(images()), model(images()), atol=1e-5)
    assert torch.allclose(runtime.skip(model)(images()), model(images()), atol=1e-5)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 1)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        x = F.relu(self.one(x))
        return self.two(self.layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape))


def test_a_transformer_layer_that_takes_another_path_inside_of_torch_is_the_same():
    torch.manual_seed(0)
    network = Transformer().eval()
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    assert model.sites == ("one",)
    with torch.no_grad():
        assert torch.allclose(model(images()), network(images()), atol=1e-5)


class Switched(nn.Module):
    """Arguments with defaults, by place and by name."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, pixels, mask=None, *, scale=1.0, features=False):
        x = F.relu(self.one(pixels)) * scale
        if mask is not None:
            x = x * mask
        return {"logits": self.two(x), "features": x} if features else self.two(x)


def test_switches_are_as_the_example_has_them(tmp_path):
    network = Switched()
    pruning = ftwt.Pruning(gates.Fixed({}))
    plain = ftwt.attach(network, pruning, example=EXAMPLE)
    mask = torch.rand(4, 1, 14, 14)
    assert torch.allclose(plain(images()), network(images()))
    assert torch.allclose(plain(pixels=images(), features=False), network(images()))
    refused("called with features=True, but attach traced it", plain, images(), features=True)
    refused(r"called with mask=a tensor .4, 1, 14, 14., but", plain, images(), mask)
    example = {"mask": mask[:1], "pixels": EXAMPLE, "features": True, "scale": 2.0}
    model = ftwt.attach(network, pruning, example=example).eval()
    want = network(images(), mask, scale=2.0, features=True)
    for got in (
        model(images(), mask, scale=2.0, features=True),
        model(mask=mask, pixels=images(), features=True, scale=2.0),
        model.trace(mask=mask, pixels=images()).output,
        runtime.skip(model)(images(), mask=mask, features=True),
    ):
        assert got.keys() == want.keys()
        assert torch.allclose(got["logits"], want["logits"], atol=1e-5)
    ftwt.save(model, tmp_path / "switched", ftwt.Card(network=None, num_classes=4))
    again, _ = ftwt.load(tmp_path / "switched", Switched())
    assert torch.equal(again(images(), mask)["logits"], model(images(), mask)["logits"])
    with pytest.raises(ftwt.FtwtError, match="example has 'masks', but Switched takes pixels"):
        ftwt.attach(network, pruning, example={"pixels": EXAMPLE, "masks": mask})


def test_the_network_that_was_given_is_left_alone():
    network = Two(counted)
    before = copy.deepcopy(network.state_dict())
    ftwt.attach(network, ftwt.Pruning(), example=EXAMPLE)
    assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())
    assert all(one.grad is None for one in network.parameters())


def test_what_cannot_be_run_in_the_weights_precision_is_refused():
    _, model = attached(half_inside)
    refused("skip: one runs under autocast inside of forward", runtime.skip, model.eval())
