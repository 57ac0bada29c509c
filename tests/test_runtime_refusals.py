"""What `skip` refuses, in one line each."""

import pytest
import torch
from torch import nn

import ftwt
from ftwt import FtwtError, gates, runtime
from tests.runtime_cases import IMAGES, both, gated, small
from tests.small import refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(), "Sequential has no gates.*attach gates first"),
        (lambda: "resnet", "model is a str, expected a gated network"),
        (lambda: gated(small()).train(), "the model is in training mode.*model.eval"),
        (
            lambda: ftwt.attach(
                small(), ftwt.Pruning(gate=gates.Oracle()), example=IMAGES[:1]
            ).eval(),
            "an oracle reads the output that skipping would not compute",
        ),
    ],
    ids=["plain", "string", "training", "oracle"],
)
def test_refuses_models(make, message):
    refused(message, runtime.skip, make())


def test_refuses_a_single_batch_norm_in_training_mode():
    model = gated(small())
    model.get_submodule("1").train()
    refused("'1' is in training mode", runtime.skip, model)


@both
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(0, 3, 8, 8), r"\(0, 3, 8, 8\), with nothing in it"),
        (torch.zeros(1, 4, 8, 8), r"\(1, 4, 8, 8\), but the network takes \(B, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"\(3, 8, 8\), but the network takes \(B, 3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.float64), "float64, but.*computes in float32"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8, but the network computes in float32"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "on meta, but the network is on cpu"),
        ([1, 2, 3], "input is a list; give a tensor"),
        (torch.zeros(1, 3, 0, 8), "with nothing in it"),
    ],
)
def test_refuses_inputs_in_one_line(backend, images, message):
    fast = runtime.skip(gated(small()), backend=backend)
    fast(IMAGES)
    with pytest.raises(FtwtError, match=message) as caught:
        fast(images)
    assert "\n" not in str(caught.value)


def test_refuses_inputs_in_another_number_and_images_that_are_too_small():
    fast = runtime.skip(gated(small()))
    refused("2 inputs came, but the network was attached with 1", fast, IMAGES, IMAGES)
    refused("0 inputs came", fast)
    refused(r"does not run on samples of shape \(3, 1, 1\)", fast, torch.zeros(1, 3, 1, 1))


def test_refuses_calls_in_training_mode():
    model = gated(small())
    fast = runtime.skip(model)
    fast(IMAGES)
    model.train()
    refused("was put into training mode", fast, IMAGES)


def test_refuses_plans_that_do_not_fit():
    fast = runtime.skip(gated(small()), calibrate=IMAGES)
    other = gated(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    refused("the plan was made for another model", runtime.skip, other, plan=fast.plan)
    refused("no plan of this version", runtime.skip, other, plan={"format": 99})
    with pytest.raises(FtwtError, match="give one of calibrate=, plan= and backend= only"):
        runtime.skip(other, plan=fast.plan, backend="torch")
    with pytest.raises(FtwtError, match="backend='cuda' is unknown; use 'dense', 'torch'"):
        runtime.skip(other, backend="cuda")
