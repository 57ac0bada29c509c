"""Skipping on networks that others wrote: a sample in every run, all with `pytest -m zoo`."""

import warnings

import pytest
import torch

import ftwt
from ftwt import gates, runtime
from tests.laws import zoo


@pytest.mark.parametrize("name", zoo.SAMPLE)
def test_sample_of_the_zoo(name):
    _skips(name)


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_the_whole_zoo(name):
    _skips(name)


def _skips(name: str) -> None:
    network, images = zoo.built(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruning = ftwt.Pruning(gate=gates.Random(zoo.KEPT))
        model = ftwt.attach(network, pruning, example=images[:1])
        with torch.no_grad():
            trace = model.trace(images, targets=False)
        for backend in ("dense", "torch", "native"):
            fast = runtime.skip(model, backend=backend)
            assert (fast(images) - trace.output).abs().max() <= 1e-4 * trace.output.abs().max()
            audit = fast.audit(images)
            assert set(audit.differing) <= set(audit.dense)
            if backend != "dense":
                assert audit.dense == ()
                assert torch.equal(audit.macs, trace.macs)
