"""The native format: what C answers from the written file, and what cannot be written."""

import pytest
import torch
from torch import nn

import ftwt
from ftwt.export.native.opened import Opened
from ftwt.runtime import native, skip

pytestmark = pytest.mark.skipif(not native.available(), reason="the library is not built")


def images(count=3):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def small(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 5),
    )  # fmt: skip


def gated(seed=0, width=8, gate=None):
    torch.manual_seed(seed)
    pruning = ftwt.Pruning(gate=gate or ftwt.gates.PooledLinear())
    return ftwt.attach(small(width), pruning, example=images(1)).eval()


def test_gated_answers_and_macs_are_pythons(tmp_path):
    model = gated()
    exported = ftwt.export(model, tmp_path / "out", format="native")
    assert "outputs within" in exported.check
    assert {"model.ftwt", "CMakeLists.txt", "example.c", "libftwt/ftwt.h"} <= set(exported.files)
    answers, macs = Opened(tmp_path / "out" / "model.ftwt").run(images())
    fast = skip(model)
    torch.testing.assert_close(answers.flatten(1), fast(images()))
    assert torch.equal(macs, fast.audit(images()).macs)
    assert len(set(macs.tolist())) > 1
