"""Networks that others wrote, cut and slimmed: a sample; `test_zoo.py` has all of them."""

import warnings

import pytest

from tests.laws import rewritten, zoo

# Norms with an activation inside, squeeze-excitation, depthwise layers, branches.
SAMPLE = (
    "torchvision:mobilenet_v3_small", "torchvision:squeezenet1_1", "timm:mobilenetv4_conv_small",
)  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_sample_of_the_zoo(name):
    network, images = zoo.built(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, masks = rewritten.gated(network, images, zoo.KEPT)
        for way in ("cut", "slim"):
            assert isinstance(rewritten.difference(way, model, masks, images), float)
