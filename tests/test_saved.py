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


class Built(nn.Module):
    """The same weights for each of its settings."""

    def __init__(self, stride=1, activation=nn.functional.relu, scale=1.0, offset=0.0):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3, stride), nn.Conv2d(8, 4, 1)
        self.activation, self.scale = activation, scale
        self.register_buffer("offset", torch.full((8, 1, 1), offset), persistent=False)

    def forward(self, x):
        return self.last(self.activation(self.conv(x)) - self.offset).mean((2, 3)) * self.scale


def attached(network: nn.Module) -> ftwt.Gated:
    return ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    "other", [{"stride": 2}, {"activation": nn.functional.gelu}, {"scale": 0.7}, {"offset": 1.0}]
)
def test_the_same_weights_in_another_network_are_refused(other, tmp_path):
    torch.manual_seed(0)
    ftwt.save(attached(Built()), tmp_path / "model", ftwt.Card(None, 4))
    ftwt.load(tmp_path / "model", Built())
    with pytest.raises(ftwt.FtwtError, match="has its weights, but answers something else than"):
        ftwt.load(tmp_path / "model", Built(**other))


def test_what_answers_otherwise_each_time_is_not_compared(tmp_path):
    network = Built(activation=lambda x: nn.functional.dropout(x.relu(), 0.5))
    model = attached(network)
    ftwt.save(model, tmp_path / "model", ftwt.Card(None, 4))
    again, _ = ftwt.load(tmp_path / "model", network)
    assert again.sites == model.sites


class Remembers(nn.Conv2d):
    """A layer with state that is no tensor."""

    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


def test_extra_state_that_is_no_tensor_is_refused(tmp_path):
    model = attached(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Remembers(8, 4, 1)))
    with pytest.raises(ftwt.FtwtError, match=r"_extra_state.* is a dict, and a file of weights"):
        ftwt.save(model, tmp_path / "model", ftwt.Card(None, 4))
