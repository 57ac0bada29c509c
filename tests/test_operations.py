"""The table of operations: every rank and dimension that an operation may be given."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import gates, runtime
from ftwt.graph.channels import Select
from ftwt.graph.operations import TABLE
from ftwt.graph.operations.table import _ROWS
from tests.laws.networks import random_masks
from tests.laws.soundness import check

SIDE = 8


class Between(nn.Module):
    """A convolution, what is tried, and a second convolution that reads the result."""

    def __init__(self, middle, reads: int):
        super().__init__()
        self.middle = middle
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(reads, 4, 3, padding=1)

    def forward(self, x):
        return self.b(self.middle(F.relu(self.a(x))))


def flat(x):
    return x.flatten(2)


def square(x):
    return x.reshape(x.shape[0], -1, SIDE, SIDE)


def wide(x):
    return x[:, :, None, None].expand(-1, -1, SIDE, SIDE)


MIDDLES = {
    # Pooling with a dimension less than usual takes the batch for channels.
    "max_pool3d": lambda x: F.max_pool3d(x, (3, 1, 1), 1, (1, 0, 0)),
    "avg_pool3d": lambda x: F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0)),
    "adaptive_max_pool3d": lambda x: F.adaptive_max_pool3d(x, (4, SIDE, SIDE)),
    "MaxPool3d": nn.MaxPool3d((3, 1, 1), 1, (1, 0, 0)),
    "AdaptiveAvgPool3d": nn.AdaptiveAvgPool3d((4, SIDE, SIDE)),
    "max_pool2d": lambda x: square(F.max_pool2d(flat(x), (3, 1), 1, (1, 0))),
    "lp_pool2d": lambda x: square(F.lp_pool2d(flat(x), 2, (2, 1), (1, 1))),
    "adaptive_avg_pool2d": lambda x: square(F.adaptive_avg_pool2d(flat(x), (4, 64))),
    "max_pool1d": lambda x: wide(F.max_pool1d(x.mean((2, 3)), 3, 1, 1)),
    "avg_pool1d": lambda x: wide(F.avg_pool1d(x.mean((2, 3)), 3, 1, 1)),
    "max_pool3d of five": lambda x: F.max_pool3d(x[:, :, None], (1, 3, 3), 1, (0, 1, 1)).squeeze(2),
    "max_pool2d moved": lambda x: F.max_pool2d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2),
    "interpolate moved": lambda x: F.interpolate(x.transpose(1, 2), (4, 8)).transpose(1, 2),
    "upsample of three": lambda x: square(F.interpolate(flat(x), 64, mode="linear")),
    # Means and sums over the channels, in every spelling.
    "mean axis keepdims": lambda x: x.mean(axis=1, keepdims=True),
    "mean negative": lambda x: torch.mean(x, -3, keepdim=True),
    "mean list": lambda x: torch.mean(x, dim=[-3], keepdim=True),
    "sum axis tuple": lambda x: torch.sum(x, axis=(1,), keepdims=True),
    "amax": lambda x: torch.amax(x, dim=(-3,), keepdim=True),
    "amin keepdims": lambda x: x.amin(dim=1, keepdims=True),
    "sum of all": lambda x: x + x.sum(()),
    "mean over space": lambda x: x.mean(axis=(-1, -2), keepdims=True).expand_as(x),
    "mean over space and channels": lambda x: x.mean((1, 2), keepdim=True).expand_as(x),
    "mean of rows": lambda x: x.mean(2, keepdims=True).expand_as(x),
    "mean without keepdim": lambda x: x.mean(-3)[:, None],
    # Norms, along channels and along others.
    "local response": nn.LocalResponseNorm(3),
    "normalize": lambda x: F.normalize(x, dim=-3),
    "rms of a row": lambda x: F.rms_norm(x, (SIDE,)),
    "rms of channels": lambda x: F.rms_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2),
    "softmax of rows": lambda x: x.softmax(-1),
    "softmax of channels": lambda x: x * torch.softmax(x, dim=-3),
    # Padding and shuffles that reach the channels.
    "zero pad of three": lambda x: square(nn.functional.pad(flat(x), (0, 0, 1, -1))),
    "reflection of three": lambda x: square(F.pad(flat(x), (0, 0, 1, 1), mode="reflect")),
    "shuffle": nn.ChannelShuffle(4),
    "roll": lambda x: x.roll(3, -3),
    "repeat": lambda x: x.repeat_interleave(2, dim=-3),
}  # fmt: skip
# Zero times infinity, or zero by zero: no number, and no zero either.
POLES = {
    "local response k=0": lambda x: F.local_response_norm(x, 3, k=0.0),
    "normalize eps=0": lambda x: F.normalize(x, dim=2, eps=0.0),
    "rms eps=0": lambda x: F.rms_norm(x, (SIDE, SIDE), eps=0.0),
    "times infinity": lambda x: torch.nan_to_num(x * float("inf"), 1.0),
    "layer norm eps=0": lambda x: F.layer_norm(x, (SIDE, SIDE), eps=0.0),
    "remainder": lambda x: torch.remainder(1.0, x),
}  # fmt: skip


def attached(middle) -> tuple[ftwt.Gated, torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        reads = middle(torch.zeros(2, 8, SIDE, SIDE)).shape[1]
    network = Between(middle, reads).eval()
    plain = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=images[:1])
    masks = random_masks(plain, len(images), 0, 0.4)
    model = ftwt.attach(network, ftwt.Pruning(gates.Fixed(masks)), example=images[:1])
    return model.eval(), images, masks


def skips(model, images):
    with torch.no_grad():
        expected = model(images)
        for backend in ("torch", "native"):
            answer = runtime.skip(model, backend=backend)(images)
            assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", MIDDLES)
def test_dead_channels_are_zero_and_skipping_answers_the_same(name):
    model, images, masks = attached(MIDDLES[name])
    check(model, images, masks)
    skips(model, images)


@pytest.mark.parametrize("name", POLES)
def test_what_is_no_number_is_not_taken_for_zero(name):
    model, images, _ = attached(POLES[name])
    skips(model, images)


@pytest.mark.parametrize(
    "name", ["max_pool3d of five", "mean over space", "normalize", "rms of a row", "mean of rows"]
)
def test_what_is_known_stays_known(name):
    model, _, masks = attached(MIDDLES[name])
    live = model.anatomy.plan.exact(masks)["b"]
    assert torch.equal(live, masks["a"].sum(1) * 4 * 9 * SIDE * SIDE)


def test_a_convolution_of_one_sample_is_no_site():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(2), nn.Conv2d(2, 4, 1))
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 8, 8)).dim() == 3
    model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(2, 3, 8, 8))
    assert model.sites == ("0",)


def test_every_operation_is_in_one_row():
    counts = Counter(one for _, targets in _ROWS for one in set(targets))
    assert {one for one, count in counts.items() if count > 1} == set()
    assert len(counts) == len(TABLE)


def test_a_divisor_stays_known_where_channels_are_picked():
    pick = Select([7, 6, 5, 4, 3, 2, 1, 0])

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.pick = pick

        def forward(self, x):
            return x / self.pick(x.square().mean((2, 3), keepdim=True) + 0.1)

    model, _, masks = attached(Scaled())
    assert not model.anatomy.liveness.infinite, masks
