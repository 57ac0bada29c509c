"""`skip` beyond the laws: what it follows, sizes, several inputs, operations in place."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import gates, runtime
from ftwt.runtime.program import Call, Conv, GateStep, Linear, Pick
from tests.runtime_cases import IMAGES, Upside, both, check, everything, gated, noisy, small
from tests.small import refused


def test_what_is_no_number_shows_in_the_output():
    for backend in ("dense", "channels-last", "torch", "native"):
        images = IMAGES.clone()
        images[0, 0, 0, 0] = float("nan")
        model = ftwt.attach(noisy(small()), ftwt.Pruning(), example=IMAGES[:1]).eval()
        answer = runtime.skip(model, backend=backend)(images)
        assert answer[0].isnan().any(), backend
        assert answer[1:].isfinite().all(), backend


@both
@pytest.mark.parametrize("side", [8, 9, 16, 31])
def test_other_sizes_of_images(backend, side):
    images = torch.randn(2, 3, side, side)
    check(gated(small()), images, backend=backend)


def test_a_size_that_the_classifier_does_not_take():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    fast = runtime.skip(gated(network))
    fast(IMAGES)
    refused(r"\(3, 9, 9\); it was attached with \(3, 8, 8\)", fast, torch.zeros(1, 3, 9, 9))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 + 2, 3)

    def forward(self, images, extra):
        x = F.relu(self.two(F.relu(self.one(images))))
        pooled = x.mean((2, 3))
        return {"logits": self.head(torch.cat([pooled, extra], 1)), "features": (x, pooled)}


@both
def test_several_inputs_and_nested_outputs(backend):
    example = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 2))
    model = gated(Two(), *example, where=everything)
    check(model, IMAGES, torch.randn(3, 2), backend=backend)
    fast = runtime.skip(model, backend=backend)
    refused(r"batches of \[2, 3\]", fast, IMAGES, torch.randn(2, 2))


class InPlace(nn.Module):
    """Reads under old names what was changed in place, views included."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, images):
        images.mul_(2)
        x = self.one(images)
        half = x[:, :3]
        half.add_(1.0)
        kept = x.clone()
        x.relu_()
        y = self.two(x)
        y.add_(kept)
        F.leaky_relu_(y)
        return y + x + images.mean(), kept, half


@both
def test_operations_in_place(backend):
    check(gated(InPlace(), where=everything), IMAGES, backend=backend)


class Odd(nn.Module):
    """Operations and settings that few networks have."""

    def __init__(self):
        super().__init__()
        self.reflect = nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect")
        self.same = nn.Conv2d(6, 6, 3, padding="same", dilation=2)
        self.soft = nn.Softplus()
        self.wide = nn.Conv2d(6, 8, (1, 3), stride=(2, 1), padding=(0, 1))
        self.last = nn.Linear(8, 5)
        self.scale = nn.Parameter(torch.rand(1, 8, 1, 1))

    def forward(self, x):
        x = self.soft(self.reflect(x))
        x = F.gelu(self.same(x))
        x = torch.sigmoid(F.conv2d(x, self.wide.weight * 2, stride=(2, 1), padding=(0, 1)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True) * self.scale
        x = F.avg_pool2d(x, 2, 2, 0, False, False)
        return self.last(x.permute(0, 2, 3, 1))


@both
def test_odd_settings(backend):
    images = torch.randn(2, 3, 13, 13)
    model = gated(Odd(), torch.zeros(1, 3, 13, 13), where=everything)
    check(model, images, backend=backend)


class Dynamic(nn.Module):
    """A convolution whose weights nobody knows beforehand."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = F.conv2d(x, self.one.weight * x.mean(), self.one.bias)
        return F.relu(self.two(F.relu(x)))


def test_what_torch_runs_dense_is_listed():
    model = gated(Dynamic(), where=everything)
    first = model.sites[0]
    check(model, IMAGES)
    audit = runtime.skip(model, backend="torch").audit(IMAGES)
    assert audit.dense == audit.differing == (first,)


def test_estimators_of_the_users_own():
    pruning = ftwt.Pruning(estimator=Upside())
    model = ftwt.attach(noisy(small()), pruning, example=IMAGES[:1]).eval()
    check(model, IMAGES)


def test_what_lowering_makes_of_common_patterns():
    shuffle = ftwt.networks.build("torchvision:shufflenet_v2_x0_5").eval()
    model = gated(shuffle, torch.zeros(1, 3, 64, 64))
    steps = runtime.skip(model).program(torch.zeros(1, 3, 64, 64)).steps
    assert not [step for step in steps if isinstance(step, Call)]
    assert [step for step in steps if isinstance(step, Pick)]
    resnet = gated(ftwt.backbones.resnet8(), torch.zeros(1, 3, 32, 32))
    steps = runtime.skip(resnet).program(torch.zeros(1, 3, 32, 32)).steps
    assert not [step for step in steps if isinstance(step, Call)]
    vgg = gated(ftwt.backbones.vgg16_bn(), torch.zeros(1, 3, 32, 32))
    steps = runtime.skip(vgg).program(torch.zeros(1, 3, 32, 32)).steps
    pooled = [step for step in steps if isinstance(step, Conv) and step.pool is not None]
    assert len(pooled) >= 4
    flat = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(144, 2)
    )
    (linear,) = [
        step for step in runtime.skip(gated(flat)).program(IMAGES).steps if isinstance(step, Linear)
    ]
    assert linear.source.shape == (4, 6, 6)


@both
def test_other_precision(backend):
    model = gated(small()).double()
    check(model, IMAGES.double(), backend=backend)


def test_copies_of_a_model_and_its_weights_are_followed():
    import copy

    model = gated(small())
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.get_submodule("4").weight.zero_()
    check(twin, IMAGES)
    assert not torch.equal(runtime.skip(twin)(IMAGES), runtime.skip(model)(IMAGES))


def test_outputs_are_the_callers_own():
    fast = runtime.skip(gated(small()))
    first = fast(IMAGES)
    kept = first.clone()
    fast(torch.randn(3, 3, 8, 8))
    assert torch.equal(first, kept)
    first.zero_()
    assert torch.equal(fast(IMAGES), kept)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["dense", "torch"])
def test_on_a_gpu(backend):
    model = gated(ftwt.backbones.resnet8(), torch.zeros(1, 3, 32, 32)).cuda()
    check(model, torch.randn(3, 3, 32, 32).cuda(), backend=backend)
    fast = runtime.skip(model, calibrate=torch.randn(3, 3, 32, 32).cuda())
    assert "native" not in fast.plan.placed[0].totals


def test_known_masks_leave_a_narrow_program():
    network, images = ftwt.backbones.resnet8(), torch.randn(3, 3, 32, 32)
    whole = gated(network, images[:1])
    masks = {
        gate.site.name: torch.arange(gate.site.out_channels) % 4 < 2
        for gate in whole.gates.values()
    }
    pruning = ftwt.Pruning(gates.Fixed(masks))
    fixed = ftwt.attach(network, pruning, example=images[:1]).eval()
    fast = runtime.skip(fixed)
    steps = fast.program(images).steps
    assert not any(isinstance(step, (Call, GateStep)) for step in steps)
    filters = [len(step.weight) for step in steps if isinstance(step, Conv)]
    assert filters == [int(mask.sum()) for mask in masks.values()]
    assert torch.equal(fast.audit(images).macs, fixed.trace(images).macs)
    # Thresholds are read at every call all the same.
    fixed.move_thresholds(dict.fromkeys(fixed.sites, -1.0))
    assert fast.audit(images).macs.tolist() == [fixed.dense_macs] * len(images)
    with torch.no_grad():
        assert torch.allclose(fast(images), network.eval()(images), atol=1e-4)


def test_channels_of_a_cut_network_are_added_without_calls():
    images = torch.randn(3, 3, 32, 32)
    model = gated(ftwt.backbones.resnet8(), images[:1])
    masks = {gate.site.name: torch.rand(gate.site.out_channels) < 0.6 for gate in model.site_gates}
    small = ftwt.slicing.cut(model, masks, round_to=None)
    assert any("Union" in type(one).__name__ for one in small.modules())
    whole = ftwt.attach(small, ftwt.Pruning(gates.Fixed({})), example=images[:1]).eval()
    fast = runtime.skip(whole)
    assert not any(isinstance(step, (Call, GateStep)) for step in fast.program(images).steps)
    with torch.no_grad():
        assert torch.allclose(fast(images), small(images), atol=1e-4)
    assert fast.audit(images).macs.tolist() == [whole.dense_macs] * len(images)
