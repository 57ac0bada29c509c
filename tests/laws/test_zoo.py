"""Networks that others wrote: a sample in every run, all of them with `pytest -m zoo`."""

import importlib.util
import warnings

import pytest

from tests.laws import zoo


@pytest.mark.parametrize("name", zoo.SAMPLE)
def test_sample_of_the_zoo(name):
    _passes(name)


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_the_whole_zoo(name):
    _passes(name)


def test_the_zoo_is_complete():
    assert len(zoo.names()) == 68 + 35
    assert set(zoo.SAMPLE) <= set(zoo.names())


def _passes(name: str) -> None:
    if name.startswith("timm:") and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed: pip install ftwt[timm]")
    with warnings.catch_warnings():
        # These packages' own affair, such as GoogLeNet's initialisation.
        warnings.simplefilter("ignore")
        record = zoo.examine(name)
    # docs/zoo.md reports the exact figures. Few networks have fewer zero channels than this, and
    # accidents that survive all draws weigh much there.
    if record.zero_channels > 1000:
        assert record.tightness >= 0.95, record
