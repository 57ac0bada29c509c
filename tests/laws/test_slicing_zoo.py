"""Cutting and narrowing networks that others wrote: a sample in every run, all with `-m zoo`."""

import warnings

import pytest
import torch

import ftwt
from ftwt import gates
from ftwt.slicing import cut, narrow
from tests.laws import zoo
from tests.laws.networks import torch_macs

# Norms with an activation inside, squeeze-excitation, depthwise layers, branches.
SAMPLE = (
    "torchvision:mobilenet_v3_small", "torchvision:squeezenet1_1", "timm:mobilenetv4_conv_small",
)  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_sample_of_the_zoo(name):
    _is_cut(name)


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_the_whole_zoo(name):
    _is_cut(name)


def _is_cut(name: str) -> None:
    network, images = zoo.built(name)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = ftwt.attach(network, ftwt.Pruning(gates.PooledLinear()), example=images[:1]).eval()
        kept = {}
        for gate in model.gates.values():
            mask = torch.rand(gate.site.out_channels) < zoo.KEPT
            mask[0] = True
            kept[gate.site.name] = mask
            gate.gate.linear.bias[~mask] = -1e4
        _answers_as_masked(model, images, kept)
        _narrows(model, images)


def _answers_as_masked(model, images, kept) -> None:
    expected = model.forward_with_masks(lambda name, _: kept[name].expand(len(images), -1), images)
    rows = {name: mask[None] for name, mask in kept.items()}
    macs = sum(int(layer) for layer in model.anatomy.plan.exact(rows).values())
    for fold in (True, False):
        renumbered = cut(model, kept, fold=fold)
        assert (renumbered(images) - expected).abs().max() <= 1e-4 * expected.abs().max()
        small = cut(model, kept, fold=fold, round_to=None)
        assert (small(images) - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert torch_macs(small, images) == macs


def _narrows(model, images) -> None:
    trace = model.trace(images, targets=False)
    small = narrow(model, {name: mask.any(0) for name, mask in trace.masks.items()})
    difference = (small(images) - trace.output).abs().max()
    assert difference <= 1e-4 * trace.output.abs().max()
