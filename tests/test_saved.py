"""What version 0.1.0 saved loads and answers as it did.

`tests/saved/models` holds files of `ftwt.save`, and `answers.json` what they answered then;
"""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from torch import nn

import ftwt
from ftwt import training
from ftwt.io import specs
from ftwt.io.registry import registered
from ftwt.training.initial import starting_weights

SAVED = Path(__file__).parent / "saved"
ANSWERS = json.loads((SAVED / "models" / "answers.json").read_text())


def network() -> nn.Module:
    """The network of the model files."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 12, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


def written(said: str):
    """The value that a repr of then stands for now."""
    return eval(said, {name: kind for name, kind in registered().items() if ":" not in name})


@pytest.mark.parametrize("name", ANSWERS)
def test_a_model_file(name):
    model, card = ftwt.load(SAVED / "models" / f"{name}.safetensors", network())
    assert (card.network, card.num_classes) == (None, 5)
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    then = ANSWERS[name]
    assert torch.allclose(model(images), torch.tensor(then["output"]), atol=1e-5)
    if isinstance(model, ftwt.Gated):
        assert model.trace(images, targets=False).macs.tolist() == then["macs"]
        assert model.pruning == written(then["repr"])
    else:
        assert name == "dense"


RUNS = json.loads((SAVED / "runs" / "answers.json").read_text())


@pytest.mark.parametrize("name", RUNS)
def test_a_run_folder(name, tmp_path):
    with tarfile.open(SAVED / "runs" / f"{name}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    run, then = tmp_path / name, RUNS[name]
    model, card = ftwt.load(run)
    assert card.network == then["network"] == "cifar10-resnet8"
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model(images), torch.tensor(then["output"]), atol=1e-4)
    if isinstance(model, ftwt.Gated):
        assert model.trace(images, targets=False).macs.tolist() == then["macs"]
        assert [point.reduction for point in model.operating_points] == then["knots"]
        assert model.thresholds == then["thresholds"]
        assert model.pruning == written(then["repr"])
        assert isinstance(ftwt.load(run / "dense.safetensors")[0], nn.Module)
    if name == "widened":
        assert model.at(reduction=0.07).thresholds != model.thresholds
    if (run / "run.json").is_file():
        record = json.loads((run / "run.json").read_text())
        recipe = specs.from_json(record["specification"])
        assert isinstance(recipe, training.Recipe)
        assert specs.renewed(record["specification"]) == specs.recorded(recipe)
        assert set(starting_weights(run, recipe.network)) == set(model.state_dict())
