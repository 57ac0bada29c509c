"""`ftwt train NETWORK-best --reduction`: escalation as the recipe that a user calls."""

import json
import shutil

import pytest
import torch

from ftwt.gated.escalation import Escalating
from ftwt.io import storage
from tests.command_line import ftwt_command, make_folder, make_weights  # noqa: F401 - a fixture
from tests.test_cli import refused

BEST = "cifar10-resnet8-best"


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("images"), images=60)
    weights = make_weights(tmp_path_factory.mktemp("weights"))
    return ("--data", f"imagefolder:{folder}", "--init", weights, "--epochs", 1)


def answers(folder):
    model, _ = storage.load(folder)
    assert isinstance(model, Escalating)
    return model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def test_training_for_a_budget(given, tmp_path, ftwt_command):  # noqa: F811
    out = tmp_path / "run"
    train = ("train", BEST, *given, "--reduction", 0.4)
    record = ftwt_command(*train, "--out", out, "--json").json()
    assert record == json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["reduction"] == record["budget"]["calibrated"]["reduction"] == 0.4
    narrow, whole = storage.load(out)[0].gated
    assert narrow.dense_macs <= 0.6 * 0.6 * whole.dense_macs
    # What was trained is what answers.
    last, _ = storage.load(out / "last")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(whole(images), last(images))
    value = ftwt_command("eval", out, "--data", given[1], "--json").json()
    assert value["dense_macs"] == whole.dense_macs
    assert value["macs"] == pytest.approx((1 - value["reduction_exact"]) * whole.dense_macs)
    assert value["dense_accuracy"] is not None
    # Stopped between the stages, it goes on to the same answers.
    cut = tmp_path / "cut"
    shutil.copytree(out, cut)
    shutil.rmtree(cut / "last")
    (cut / "model.safetensors").unlink()
    (cut / "run.json").write_text(json.dumps(record | {"status": "running"}))
    other = ("train", BEST, *given, "--reduction", 0.3, "--out", cut, "--resume")
    refused(ftwt_command(*other), "was started differently: reduction was 0.4, is 0.3")
    assert ftwt_command(*train, "--out", cut, "--resume").status == 0
    torch.testing.assert_close(answers(cut), answers(out))
    refused(ftwt_command(*train, "--out", out), "is not empty and may hold another run")
    refused(ftwt_command(*train, "--out", out, "--resume"), "the run in", "is finished")


def test_what_it_needs_and_what_it_has_no_use_for(given, tmp_path, ftwt_command):  # noqa: F811
    out = ("--out", tmp_path / "run")
    refused(ftwt_command("train", BEST, *given, *out), "it needs one; give --reduction")
    for option in ("--distill", "--per-layer"):
        answer = ftwt_command("train", BEST, *given, *out, option, "--reduction", 0.5)
        assert answer.status == 2
        assert "has no gates" in answer.err
    alone = ("train", BEST, "--data", given[1], *out, "--reduction", 0.5)
    refused(ftwt_command(*alone), "give the dense run as --init")
    assert ftwt_command("train", BEST, *given, *out, "--reduction", 0.99).status == 2
