"""Networks that others wrote, skipping: a sample; `test_zoo.py` has all of them."""

import warnings

import pytest

from tests.laws import rewritten, zoo


@pytest.mark.parametrize("name", zoo.SAMPLE)
def test_sample_of_the_zoo(name):
    network, images = zoo.built(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, masks = rewritten.gated(network, images, zoo.KEPT)
        assert isinstance(rewritten.difference("skip", model, masks, images), float)
