import importlib.util
import subprocess
import sys

import pytest
import torch

from ftwt import macs, networks
from ftwt.errors import FtwtError
from tests.small import refused

CIFAR = [
    "resnet8",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "vgg16_bn",
    "mobilenet_v1",
    "mobilenet_v1-x0.75",
    "mobilenet_v1-x0.5",
    "mobilenet_v1-x0.25",
    "mobilenet_v2",
    "mobilenet_v2-x0.5",
    "mobilenet_v2-x0.25",
]


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_names_are_exactly_these():
    assert networks.names() == (
        *(f"cifar10-{name}" for name in CIFAR),
        *(f"cifar100-{name}" for name in CIFAR),
        *(f"imagenet-resnet{depth}" for depth in (18, 34, 50)),
        *(f"imagenet-mobilenet_v{version}" for version in (1, 2)),
    )


@pytest.mark.parametrize("name", networks.names())
def test_every_name_builds_with_the_classes_of_its_data(name):
    classes = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}[name.split("-")[0]]
    network = networks.build(name).eval()
    with torch.device("meta"):
        assert network.to("meta")(networks.example(name).to("meta")).shape == (1, classes)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("cifar10-vgg16_bn", 32),
        ("cifar100-resnet20", 32),
        ("imagenet-resnet34", 224),
        ("torchvision:densenet121", 224),
        ("torchvision:inception_v3", 299),
    ],
)
def test_example_has_the_size_of_the_data(name, size):
    assert networks.image_size(name) == size
    assert networks.example(name).shape == (1, 3, size, size)


def test_width_of_a_name_is_the_width_that_is_built():
    assert parameters(networks.build("cifar10-mobilenet_v1-x0.5")) == 823_722


def test_mobilenet_v1_on_imagenet_is_the_published_one():
    """569 million MACs and 4.2 million parameters (arXiv 1704.04861, table 4)."""
    network = networks.build("imagenet-mobilenet_v1")
    assert parameters(network) == 4_231_976
    assert macs.dense_macs(network, networks.example("imagenet-mobilenet_v1")) == 568_740_352


@pytest.mark.parametrize("name", ["cifar10-resnet8", "imagenet-resnet18", "torchvision:alexnet"])
def test_number_of_classes_can_be_chosen(name):
    network = networks.build(name, num_classes=3).eval()
    with torch.no_grad():
        assert network(networks.example(name)).shape == (1, 3)


@pytest.mark.parametrize("name", ["torchvision:googlenet", "torchvision:inception_v3"])
def test_training_output_is_one_tensor(name):
    network = networks.build(name, num_classes=2).to("meta")
    images = networks.example(name).expand(2, -1, -1, -1).to("meta")
    assert network(images).shape == (2, 2)


def test_builds_do_not_share_parameters():
    first, second = networks.build("cifar10-resnet8"), networks.build("cifar10-resnet8")
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


@pytest.mark.parametrize("call", [networks.build, networks.image_size, networks.example])
def test_unknown_name_lists_the_known_and_the_nearest(call):
    with pytest.raises(FtwtError, match=r"'cifar10-resnet57'; did you mean .*\?") as caught:
        call("cifar10-resnet57")
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in networks.names())
    assert "did you mean cifar10-resnet56" in message


def test_nothing_near():
    refused(r"no network is named 'zzz'; known: cifar10-resnet8, ", networks.build, "zzz")


def test_unknown_torchvision_name():
    with pytest.raises(FtwtError, match=r"'torchvision:resnt50'.*mean .*torchvision:resnet50"):
        networks.build("torchvision:resnt50")


def test_networks_that_do_not_classify_are_unknown():
    with pytest.raises(FtwtError, match=r"none of the .* classification networks of torchvision"):
        networks.build("torchvision:fcn_resnet50")


def test_bad_number_of_classes_names_the_call():
    with pytest.raises(FtwtError, match=r"networks.build\('imagenet-resnet18'\): num_classes=0;"):
        networks.build("imagenet-resnet18", num_classes=0)


def test_absent_timm_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # makes its import fail
    refused(r"pip install ftwt\[timm\]", networks.build, "timm:resnet50")


def test_timm():
    pytest.importorskip("timm")
    assert networks.build("timm:resnet18", num_classes=5).fc.out_features == 5
    assert networks.build("timm:resnet18").fc.out_features == 1000
    assert networks.image_size("timm:inception_v3") == 299
    refused(r"'timm:resnt18'.*timm:resnet18", networks.build, "timm:resnt18")


def test_import_loads_neither_torchvision_nor_timm():
    assert importlib.util.find_spec("torchvision")
    code = (
        "import sys; from ftwt import networks as n; n.build('cifar10-resnet8');"
        "sys.exit(any(m in sys.modules for m in ('torchvision', 'timm')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
