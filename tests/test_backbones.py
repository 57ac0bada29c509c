import pytest
import torch
import torch.fx
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ftwt import backbones
from tests.small import refused

# MACs (convolutions and linear layers, one 3x32x32 image) and parameters.
PUBLISHED = [
    (backbones.resnet56, {}, 125_485_696, 853_018),
    (backbones.vgg16_bn, {}, 313_201_664, 14_728_266),
    (backbones.mobilenet_v1, {}, 46_354_432, 3_217_226),
    (backbones.mobilenet_v1, {"width": 0.5}, 12_167_168, 823_722),
    (backbones.mobilenet_v2, {}, 91_154_944, 2_296_922),
]
ALL = [
    backbones.resnet8,
    backbones.resnet20,
    backbones.resnet32,
    backbones.resnet44,
    backbones.resnet56,
    backbones.resnet110,
    backbones.vgg16_bn,
    backbones.mobilenet_v1,
    backbones.mobilenet_v2,
]


def name_of(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("make", "arguments", "macs", "parameters"), PUBLISHED, ids=name_of)
def test_macs_and_parameters_are_the_published_ones(make, arguments, macs, parameters):
    network = make(**arguments).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == 2 * macs
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("make", ALL, ids=name_of)
def test_traced_network_gives_the_same_logits(make):
    network = make(num_classes=7).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(images)
        traced = torch.fx.symbolic_trace(network)(images)
    assert logits.shape == (2, 7)
    assert torch.equal(logits, traced)


@pytest.mark.parametrize("make", [backbones.mobilenet_v1, backbones.mobilenet_v2], ids=name_of)
@pytest.mark.parametrize("width", [0.05, 0.25, 0.3, 0.75, 1.4])
def test_any_width_runs(make, width):
    network = make(width=width).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("depth", [8, 20, 32, 44, 56, 110])
def test_resnet_depth_counts_its_layers(depth):
    network = getattr(backbones, f"resnet{depth}")()
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules()) == depth


def test_resnet_state_dict_names():
    assert set(backbones.resnet8().state_dict()) == {
        *_with_batch_norm("conv1", "bn1"),
        *(
            name
            for stage in (1, 2, 3)
            for i in (1, 2)
            for name in _with_batch_norm(f"layer{stage}.0.conv{i}", f"layer{stage}.0.bn{i}")
        ),
        "fc.weight",
        "fc.bias",
    }


def _with_batch_norm(conv, bn):
    kept = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [f"{conv}.weight", *(f"{bn}.{name}" for name in kept)]


def test_stride_2_shortcut_subsamples_and_pads_both_sides():
    block = backbones.resnet8().layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)  # silences the branch
    x = torch.rand(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = block(x)
    assert out.shape == (2, 32, 4, 4)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_gradient_flows_through_stride_2_shortcuts():
    network = backbones.resnet8()
    for stage in (network.layer2, network.layer3):
        nn.init.zeros_(stage[0].bn2.weight)  # leaves the shortcut as the only path
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network(images).square().sum().backward()
    assert network.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("make", ALL, ids=name_of)
def test_initial_scale_survives_the_depth(make):
    torch.manual_seed(0)
    network = make()
    images = torch.randn(8, 3, 32, 32)
    std = network(images).std()
    assert 0.1 < std < 30


@pytest.mark.parametrize("make", ALL, ids=name_of)
@pytest.mark.parametrize("num_classes", [0, -1, 2.5, "10", True])
def test_bad_number_of_classes(make, num_classes):
    refused(
        rf"^{make.__name__}: num_classes=.*give 1 or more, a whole number$",
        make,
        num_classes=num_classes,
    )


@pytest.mark.parametrize("make", [backbones.mobilenet_v1, backbones.mobilenet_v2], ids=name_of)
@pytest.mark.parametrize("width", [0, -1.0, float("nan"), float("inf"), "half", True])
def test_bad_width(make, width):
    refused(rf"^{make.__name__}: width=.*above 0.*width=0.5.*$", make, width=width)
