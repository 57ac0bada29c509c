"""What a training starts from: torchvision's weights, state dicts, and what does not fit."""

import argparse
import pickle
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision import models

import ftwt
from ftwt import backbones, losses, networks, training
from ftwt.errors import FtwtError
from ftwt.io import storage
from ftwt.training.initial import starting_weights
from ftwt.training.runs import Callbacks, train_run
from tests.test_states import RECIPE, dataset


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return backbones.resnet8(2)


@pytest.mark.parametrize("ending", ["th", "tar", "pth.tar", "pkl", "model", "safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_are_told_by_content(network, ending, zipped, tmp_path):
    file = tmp_path / f"start.{ending}"
    held = {"state_dict": network.state_dict(), "best_prec1": np.float64(91.7)}
    held["args"] = argparse.Namespace(lr=0.1)
    torch.save(held, file, _use_new_zipfile_serialization=zipped)
    found = starting_weights(file, "cifar10-resnet8")
    assert torch.equal(found["fc.weight"], network.fc.weight)
    with pytest.raises(FtwtError, match=r"was written by torch\.save, .* as --init"):
        ftwt.load(file)


def test_weights_that_are_not_finite_are_refused(network, tmp_path):
    weights = dict(network.state_dict())
    weights["fc.weight"] = torch.full_like(weights["fc.weight"], torch.nan)
    torch.save(weights, tmp_path / "start.pt")
    with pytest.raises(FtwtError, match=r"fc\.weight in .*start\.pt has values that are no finite"):
        starting_weights(tmp_path / "start.pt", "cifar10-resnet8")


def test_safetensors_are_told_by_content(network, tmp_path):
    safetensors.torch.save_file(network.state_dict(), tmp_path / "start.pth")
    found = starting_weights(tmp_path / "start.pth", "cifar10-resnet8")
    assert torch.equal(found["fc.weight"], network.fc.weight)


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_models_are_refused_with_the_way_out(network, protocol, tmp_path):
    with (tmp_path / "whole.tar").open("wb") as file:
        pickle.dump(network, file, protocol)
    torch.save(network, tmp_path / "whole.th")
    for name in ("whole.tar", "whole.th"):
        with pytest.raises(FtwtError, match=r"whole\.t.* pickled model .*state_dict\(\)$"):
            starting_weights(tmp_path / name, "cifar10-resnet8")


@pytest.mark.parametrize(
    "held",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model": {f"module.{name}": one for name, one in weights.items()}},
    ],
)
def test_a_state_dict_is_read_however_scripts_wrap_it(network, held, tmp_path):
    torch.save(held(network.state_dict()), tmp_path / "start.pth")
    found = starting_weights(tmp_path / "start.pth", "cifar10-resnet8")
    assert found.keys() == network.state_dict().keys()
    assert torch.equal(found["fc.weight"], network.fc.weight)


def test_a_run_starts_from_a_state_dict(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "start.pth")
    notes: list[str] = []
    train_run(
        RECIPE, dataset(), tmp_path / "run", init=tmp_path / "start.pth",
        callbacks=Callbacks(note=notes.append),
    )  # fmt: skip
    dense, _ = storage.read_tensors(tmp_path / "run" / "dense.safetensors")
    assert torch.equal(dense["fc.weight"], network.fc.weight)
    assert not [note for note in notes if "random weights" in note]


def test_torchvisions_weights_come_through_its_own_interface(monkeypatch):
    own = networks.build("imagenet-resnet18").state_dict()
    asked = []

    def fake(self, *args, **options):
        asked.append((self, options))
        return own

    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", fake)
    found = starting_weights("torchvision", "imagenet-resnet18")
    assert found.keys() == own.keys()
    assert asked[0][0] is models.ResNet18_Weights.DEFAULT
    assert asked[0][1]["check_hash"]
    starting_weights("torchvision", "torchvision:mobilenet_v2")
    assert asked[1][0] is models.MobileNet_V2_Weights.DEFAULT


def test_what_cannot_be_started_from_is_told(monkeypatch, tmp_path):
    def offline(self, **_: object):
        raise OSError("no network")

    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", offline)
    with pytest.raises(FtwtError, match=r"https://.* cannot be downloaded \(no network\); fetch"):
        starting_weights("torchvision", "imagenet-resnet34")
    with pytest.raises(FtwtError, match=r"no weights for cifar10-resnet20, which is not torch"):
        starting_weights("torchvision", "cifar10-resnet20")
    (tmp_path / "cut.pt").write_bytes(b"PK no zip")
    with pytest.raises(FtwtError, match=r"cut.pt is not a whole state dict"):
        starting_weights(tmp_path / "cut.pt", "cifar10-resnet20")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(FtwtError, match=r"list.pt holds no state dict"):
        starting_weights(tmp_path / "list.pt", "cifar10-resnet20")


def test_data_with_more_classes_than_the_start_knows_is_refused(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "start.pt")
    more = replace(dataset(), classes=("a", "b", "c"))
    with pytest.raises(FtwtError, match=r"start.pt knows 2 classes \(fc.weight\), the data has 3"):
        train_run(RECIPE, more, tmp_path / "run", init=tmp_path / "start.pt")


def test_a_label_that_the_network_has_no_output_for_is_told():
    settings = training.Settings((training.Phase("a", 1),), training.Sgd(0.1))
    model = backbones.resnet8(2)
    state = training.start(model, settings, 1)
    batch = (torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 1]))
    with pytest.raises(FtwtError, match="a label is 2, but the network knows the classes 0 to 1"):
        training.fit(state, losses.Objective.of(losses.CrossEntropy()), settings, [batch], [batch])


def test_random_weights_are_said(tmp_path):
    notes: list[str] = []
    train_run(RECIPE, dataset(), tmp_path / "run", callbacks=Callbacks(note=notes.append))
    assert any("starts from random weights" in note for note in notes)


@pytest.mark.parametrize("head", [b"PK", b"\x80\x02", b"\x80\x04"])
def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(tmp_path, head):
    length = int.from_bytes(head, "little")
    header = '{"__metadata__":{"about":"x"}}'.ljust(length)
    file = tmp_path / "model.safetensors"
    file.write_bytes(length.to_bytes(8, "little") + header.encode())
    assert file.read_bytes().startswith(head)
    assert not storage.is_pickled(file)
    assert storage.read_tensors(file)[0] == {}
