"""Planes that are too large for a core's cache: threads then share rows instead of channels."""

import pytest
import torch
from torch import nn

import ftwt
from ftwt import gates, runtime
from ftwt.runtime import native
from tests.runtime_cases import noisy

pytestmark = pytest.mark.skipif(not native.available(), reason="no native kernels")


@pytest.fixture
def two_threads():
    """Sets two threads for the kernels alone: torch's own would wait for each other."""
    before = torch.get_num_threads()
    yield lambda: torch.set_num_threads(2)
    torch.set_num_threads(before)
    native.force(None)


@pytest.mark.parametrize("instructions", native.binding.known_sets())
@pytest.mark.parametrize(("pool", "stride"), [("max", 1), ("mean", 2)])
def test_rows_that_threads_share_are_those_of_whole_planes(two_threads, instructions, pool, stride):
    # An odd side: bands of unlike height, and a last row that a stride of two reads or not.
    width, side = 96, 81
    network = nn.Sequential(
        nn.Conv2d(4, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(),
        nn.Conv2d(width, width, 3, stride, 1, groups=width), nn.ReLU(),
        nn.Conv2d(width, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    gate = gates.ByCost(gates.PooledLinear(pool=pool), gates.Bottleneck(4, pool=pool), share=1e-5)
    image = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(2))
    model = ftwt.attach(noisy(network), ftwt.Pruning(gate), example=image).eval()
    native.force(instructions)
    fast = runtime.skip(model, backend="native")
    with torch.no_grad():
        wanted = model.trace(image, targets=False)
    two_threads()
    found = fast.audit(image)
    assert torch.equal(found.macs, wanted.macs)
    assert found.differing == ()
    assert (fast(image) - wanted.output).abs().max() <= 1e-4 * wanted.output.abs().max()
