"""What tracing would lose and cannot keep is refused by name, with its line."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import ftwt
from ftwt import gates, runtime, slicing
from tests import small
from tests.small import images, refused
from tests.test_faithful import EXAMPLE, Two, attached


def by_size(self, x):
    y = F.relu(self.one(x))
    return self.two(y if x.shape[-1] < 20 else -y)


def test_another_way_through_than_the_examples_is_refused_when_it_comes():
    _, model = attached(by_size)
    assert model(images(2, 12)).shape == (2, 4, 12, 12)
    line = r"test_faithful_refusals.py:\d+ `return self.two\(y if "
    match = f"{line}.*came out as True for the example"
    refused(match, model, images(2, 24))
    refused("came out as True for the example", runtime.skip(model.eval()), images(2, 24))


def ranged_elsewhere(self, x):
    return self.two(small.reversed_channels(F.relu(self.one(x))))


def test_a_helper_that_counts_rows_is_kept_for_the_examples_size_alone():
    network, model = attached(ranged_elsewhere)
    assert torch.allclose(model.eval()(images(3, 16)), network.eval()(images(3, 16)), atol=1e-5)
    match = r"small.py:\d+ `rows = .*` came out as 16 for the example of attach, and is 12 for"
    refused(match, model, images(3, 12))
    assert "range" not in vars(small)


def on_a_count(self, x):
    self.steps += 1
    return self.two(F.relu(self.one(x)) * (1 if self.steps < 3 else 2))


def test_a_way_through_that_a_count_decides_is_refused_when_it_changes():
    _, model = attached(on_a_count)
    model(images())
    model(images())
    refused("came out as True for the example", model, images())


def over_samples(self, x):
    return torch.cat([self.two(F.relu(self.one(one[None]))) for one in x])


def by_sum(self, x):
    return self.two(F.relu(self.one(x)) * (2 if x.sum() > 0 else 1))


def features(self, x):
    self.last = F.relu(self.one(x))
    return self.two(self.last)


def calls(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return self.two(F.relu(self.one(x)))


def noise(self, x):
    return self.two(F.relu(self.one(x)) + torch.randn(8, 1, 1))


def indexed(self, x):
    return self.two(F.relu(self.one(x)) * (2.0, 1.0)[x.shape[-1] - 16])


def no_range(self, x):
    y = F.relu(self.one(x))
    parts = [y[:, c] for c in range(y.shape[1])]
    return self.two(torch.stack([parts[c] for c in range(7.5)], 1))


def by_mode(self, x):
    return self.two(F.relu(self.one(x)) if self.training else self.one(x).abs())


def by_mode_in_gradients(self, x):
    scale = self.gain if self.training else self.gain.detach()
    return self.two(F.relu(self.one(x)) * scale[:, None, None])


def dropped_by_hand(self, x):
    x = F.relu(self.one(x))
    if self.training:
        x = x * (torch.rand_like(x) > 0.5)
    return self.two(x)


def counted_in_training(self, x):
    if self.training:
        self.steps += 1
    return self.two(F.relu(self.one(x)))


def left_out_now_and_then(self, x):
    y = F.relu(self.one(x))
    if self.training and torch.rand(()) < 0.01:
        y = y * 0
    return self.two(y)


def by_pythons_random(self, x):
    return self.two(F.relu(self.one(x)) * (0 if random.random() < 0.01 else 1))


def by_numpys_random(self, x):
    drawn = np.random.rand()  # noqa: NPY002
    return self.two(F.relu(self.one(x)) * (0 if drawn < 0.001 else 1))


def by_gradient_mode(self, x):
    x = F.relu(self.one(x))
    return self.two(x if torch.is_grad_enabled() else x.clamp(max=0.1))


class Checkpointed(nn.Module):
    """Computes its middle again for the gradient, in one of torch's two ways."""

    def __init__(self, middle, reentrant):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.middle, self.reentrant = middle, reentrant

    def forward(self, x):
        x = checkpoint(self.middle, self.one(x), use_reentrant=self.reentrant)
        return self.two(x.relu())


@pytest.mark.parametrize(
    ("middle", "reentrant", "match"),
    [
        (nn.BatchNorm2d(8), False, "leaves buffer 'middle.running_mean' as another"),
        (nn.Conv2d(8, 8, 1), True, "gives 'one.weight' a gradient in the plain network, and none"),
    ],
)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_checkpoints_that_are_lost_are_to_be_turned_off(middle, reentrant, match):
    network = Checkpointed(middle, reentrant)
    with pytest.raises(ftwt.FtwtError, match=f"{match}.*turn checkpointing off before attach"):
        ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=torch.zeros(1, 3, 8, 8))


REFUSED = [
    (over_samples, "over_samples|for one in x.*came out as 2 for the example"),
    (by_sum, "does not trace with torch.fx at .*if x.sum"),
    (features, "Two keeps 'last' of each pass at .*self.last = "),
    (calls, "Two keeps 'calls' of each pass at .*self.calls = "),
    (noise, "answers something else when traced by torch.fx.*it draws random numbers"),
    (indexed, r"does not trace .*shape.*traced size is no plain number.*int\(size\)"),
    (no_range, "does not trace .*range.7.5.*'float' object cannot be interpreted"),
    (by_mode, "answers something else.*: 'Two' reads self.training, and tracing follows eval mode"),
    (by_mode_in_gradients, "gives 'gain' a gradient in the plain network.*'Two' reads self.train"),
    (counted_in_training, "leaves buffer 'steps' as another.*'Two' reads self.training"),
    (left_out_now_and_then, "draws random numbers that it does not.*'Two' reads self.training"),
    (by_pythons_random, "draws random numbers that it does not when traced by torch.fx"),
    (by_numpys_random, "draws random numbers that it does not when traced by torch.fx"),
    (by_gradient_mode, "something else without gradients.*do not ask for torch.is_grad_enabled"),
    (dropped_by_hand, "answers something else.*'Two' reads self.training"),
]


@pytest.mark.parametrize(("forward", "match"), REFUSED)
def test_what_is_lost_is_refused_with_its_line(forward, match):
    with pytest.raises(ftwt.FtwtError, match=match) as caught:
        attached(forward)
    assert "\n" not in str(caught.value)


def plain(self, x):
    return self.two(F.relu(self.one(x)))


def test_draws_of_other_threads_are_not_the_networks(monkeypatch):
    passes = itertools.count()
    # The process's generators go on beside the first passes, as when another thread draws.
    monkeypatch.setattr("ftwt.graph.faithful.generators", lambda: [min(next(passes), 4)])
    attached(plain)
    monkeypatch.setattr("ftwt.graph.faithful.generators", lambda: [next(passes)])
    with pytest.raises(ftwt.FtwtError, match="draws random numbers that it does not"):
        attached(plain)


def parallel() -> nn.Module:
    return nn.DataParallel(Two(plain))


def distributed() -> nn.Module:
    # Without the processes that it would ask for.
    network = object.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(network)
    return network


def compiled() -> nn.Module:
    return torch.compile(Two(plain))


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)))


def to_be_quantized() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)).train()
    network.qconfig = torch.ao.quantization.get_default_qat_qconfig()
    return torch.ao.quantization.prepare_qat(network)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("made", "match"),
    [
        (parallel, r"DataParallel runs a network on several devices; give .*network\.module"),
        (distributed, r"DistributedDataParallel runs a network on .*network\.module"),
        (compiled, r"given to torch\.compile; give the one inside of it, network\._orig_mod"),
        (scripted, r"compiled by torch\.jit.*give the network that it was made from"),
        (to_be_quantized, r"'0' is a Conv2d.*prepared for quantization.*as it was before"),
    ],
)
def test_a_network_inside_of_another_is_asked_for(made, match):
    refused(match, ftwt.attach, made(), ftwt.Pruning(), example=EXAMPLE)


def test_a_cut_network_asks_for_the_sizes_that_it_was_traced_for():
    _, model = attached(by_size)
    masks = {"one": torch.arange(8) < 5}
    small = slicing.cut(model.eval(), masks)
    assert small(images(2, 12)).shape == (2, 4, 12, 12)
    refused("came out as True for the example", small, images(2, 24))


def test_without_the_check():
    network, model = attached(features, check=False)
    assert torch.allclose(model(images()), network(images()), atol=1e-6)
    assert not hasattr(model, "last")
