"""Gated networks are handled as any network is: copied, moved, compiled, exported, distributed."""

import copy
import multiprocessing
import pickle
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import backbones, gates, losses, runtime
from tests.small import images

EXAMPLE = torch.zeros(1, 3, 16, 16)


class Odd(nn.Module):
    """Functional and shared parts: a convolution that is called twice, one without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.shared, self.act = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3) / 8)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.act(self.stem(x))
        # Pre-activation, with the activation module that every block shares.
        x = x + self.shared(self.act(self.norms[0](x)))
        x = x + self.shared(self.act(self.norms[1](x)))
        x = F.relu(self.norms[2](F.conv2d(x, self.weight, padding=1)))
        return self.head(x.mean((2, 3)))


def gated(**options) -> ftwt.Gated:
    torch.manual_seed(0)
    return ftwt.attach(Odd(), ftwt.Pruning(**options), example=EXAMPLE).eval()


def test_shared_and_functional_parts_are_sites_of_their_own():
    assert gated().sites == ("stem", "shared", "shared@2", "conv2d")


@pytest.mark.parametrize("example", [EXAMPLE.half(), EXAMPLE.bfloat16()], ids=["half", "bfloat16"])
def test_half_precision(example):
    model = gated().to(example.dtype)
    trace = model.trace(images().to(example.dtype))
    assert trace.output.dtype == example.dtype
    assert trace.macs.dtype == torch.int64
    same = ftwt.attach(Odd().to(example.dtype), ftwt.Pruning(), example=example)
    assert same(images().to(example.dtype)).dtype == example.dtype


def test_channels_last():
    model = gated().to(memory_format=torch.channels_last)
    batch = images().to(memory_format=torch.channels_last)
    assert torch.allclose(model(batch), gated()(images()), rtol=1e-4, atol=1e-5)


def test_another_device():
    model = gated().to("meta")
    trace = model.trace(images().to("meta"))
    assert trace.output.device.type == "meta"
    assert all(site.mask.device.type == "meta" for site in trace.sites.values())


def compiles() -> None:
    model = gated()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(images()), model(images()), rtol=1e-4, atol=1e-6)
    model.train()
    compiled(images()).sum().backward()
    assert model.stem.weight.grad is not None


def exports() -> None:
    model = gated()
    exported = torch.export.export(model, (images(),), strict=False)
    assert torch.allclose(exported.module()(images()), model(images()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("check", [compiles, exports])
def test_compiles_without_a_graph_break_and_exports(check):
    """In a process of its own: the compiler does not see through the tests' type checks."""
    code = f"from {__name__} import {check.__name__} as check; check()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_saved_and_loaded_without_pickle(tmp_path):
    model, path = gated(), tmp_path / "model.safetensors"
    ftwt.save(model, path, ftwt.Card(network=None, num_classes=4))
    again, _ = ftwt.load(path, Odd())
    assert again.sites == model.sites
    assert torch.equal(again(images()), model(images()))
    assert set(safetensors.torch.load_file(path)) == set(model.state_dict())


def test_a_saved_site_that_the_network_lacks(tmp_path):
    path = tmp_path / "model.safetensors"
    ftwt.save(gated(), path, ftwt.Card(network=None, num_classes=4))
    with pytest.raises(ftwt.FtwtError, match="ResNet has no convolution 'stem'"):
        ftwt.load(path, backbones.resnet8())


class Tied(nn.Module):
    """Two convolutions of one weight, a view of another one, a convolution at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.two.weight = self.one.weight
        self.again = self.one
        self.register_buffer("part", self.one.bias.detach()[:2])
        self.last = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = F.relu(self.two(F.relu(self.one(x)))) * self.part.sum()
        return self.last(F.relu(self.again(x))).mean((2, 3))


def test_tied_weights_are_saved_and_stay_tied(tmp_path):
    torch.manual_seed(0)
    model, path = ftwt.attach(Tied(), ftwt.Pruning(), example=EXAMPLE).eval(), tmp_path / "tied"
    ftwt.save(model, path, ftwt.Card(network=None, num_classes=4))
    again, _ = ftwt.load(path, Tied())
    assert torch.equal(again(images()), model(images()))
    assert again.two.weight is again.one.weight
    assert again.again is again.one
    assert {k for k in model.state_dict() if not k.startswith("gates.")} == set(Tied().state_dict())


class Buffers(nn.Module):
    """Computes from a buffer, and branches on another one."""

    def __init__(self, *, branches: bool) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.register_buffer("scale", torch.ones(8, 1, 1))
        self.register_buffer("on", torch.tensor(True))
        self.branches = branches

    def forward(self, x):
        x = F.relu(self.conv(x)) * self.scale.exp()
        return self.last(x if not self.branches or self.on else -x)


def test_what_is_computed_from_buffers_follows_them():
    network = Buffers(branches=False).eval()
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    state = network.state_dict() | {"scale": torch.full((8, 1, 1), -2.0)}
    network.load_state_dict(state)
    model.load_state_dict(state)
    assert torch.allclose(model(images()), network(images()), atol=1e-6)


def test_a_branch_on_a_buffer_is_taken_as_it_is():
    network = Buffers(branches=True).eval()
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    assert torch.allclose(model(images()), network(images()), atol=1e-6)


def test_copies_hold_their_own_weights():
    model = gated()
    other = copy.deepcopy(model)
    nn.init.zeros_(other.weight)
    assert model.weight.any()
    assert not torch.equal(other(images()), model(images()))


def test_state_dicts_of_the_plain_network():
    model, plain = gated(), Odd().eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    on = ftwt.attach(plain, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE)
    assert torch.allclose(on(images()), plain(images()), rtol=1e-5)
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith("gates.")}
    plain.load_state_dict(kept)


class Traced(nn.Module):
    """DistributedDataParallel synchronises what `forward` returns, so forward returns a trace."""

    def __init__(self, model: ftwt.Gated) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.trace(x)


@pytest.fixture
def process_group(tmp_path):
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_distributed_data_parallel(process_group):
    model = gated().train()
    parallel = nn.parallel.DistributedDataParallel(Traced(model))
    objective = losses.CrossEntropy() + losses.GateBCE()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        trace = parallel(images())
        objective(trace, torch.arange(4)).total.backward()
        optimizer.step()
    assert all(one.grad is not None for one in model.parameters())
    assert (trace.macs > 0).all()


def test_sites_by_name():
    model = ftwt.attach(Odd(), ftwt.Pruning(), example=EXAMPLE, where=["shared@2", "stem"])
    assert model.sites == ("stem", "shared@2")
    assert ("shared", "not chosen by where=") in model.explain().left_out


class Stubborn(nn.Module):
    """Keeps its norm in eval mode, and computes with constants made in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)

    def train(self, mode: bool = True):
        """Set the mode of all but the norm."""
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x, scale=1.0):
        return self.two(F.relu(self.norm(self.one(x * torch.tensor(2.0)))) * scale)


def test_the_networks_own_train_is_kept():
    network = Stubborn().train()
    model = ftwt.attach(network, ftwt.Pruning(), example=EXAMPLE)
    for one in (model, copy.deepcopy(model)):
        one.train()
        assert one.training
        assert one.gates.training
        assert not one.norm.training
        one(images())
        assert not one.norm.running_mean.any()
        assert not one.eval().one.training


def test_pickles_are_the_same_model(tmp_path):
    torch.manual_seed(0)
    model = ftwt.attach(Stubborn(), ftwt.Pruning(), example=EXAMPLE).eval()
    model = model.with_thresholds(dict.fromkeys(model.sites, 0.1))
    path = tmp_path / "model.pt"
    torch.save(model, path)
    for again in (pickle.loads(pickle.dumps(model)), torch.load(path, weights_only=False)):
        trace = again.trace(images())
        assert torch.equal(trace.output, model(images()))
        assert torch.equal(trace.macs, model.trace(images()).macs)
        assert again.thresholds == model.thresholds
        assert torch.allclose(runtime.skip(again)(x=images()), trace.output, atol=1e-6)
        with torch.no_grad():
            again.one.weight.zero_()
        assert not torch.equal(again(images()), model(images()))
        assert again.train().training
        assert not again.norm.training


def _answers(model, batch, queue) -> None:
    queue.put(model(batch).detach().numpy())


def test_another_process_takes_the_model():
    torch.manual_seed(0)
    model = ftwt.attach(Stubborn(), ftwt.Pruning(), example=EXAMPLE).eval()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_answers, args=(model, images(), queue))
    worker.start()
    answer = queue.get(timeout=120)
    worker.join()
    assert torch.allclose(torch.from_numpy(answer), model(images()), atol=1e-6)
