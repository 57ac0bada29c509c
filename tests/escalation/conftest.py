"""One escalating network, and its plain one."""

import pytest

import ftwt
from tests.escalation.settings import static
from tests.small import labelled, resnet8


@pytest.fixture(scope="module")
def network():
    return resnet8()


@pytest.fixture(scope="module")
def model(network):
    """A quarter, a half, and the plain network."""
    return ftwt.escalate([static(network, 0.25), static(network, 0.5), network]).eval()


@pytest.fixture(scope="module")
def calibrated(model):
    return ftwt.calibrate(model, labelled(120, 40), reductions=[0.1, 0.4, 0.7])
