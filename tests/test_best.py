"""`ftwt train NETWORK-best --reduction`: escalation as the recipe that a user calls."""

import json
import shutil

import pytest
import torch
from hypothesis import given as given_drawn
from hypothesis import strategies as st

import ftwt
from ftwt.gated.escalation import Escalating
from ftwt.io import storage
from ftwt.training import Escalation
from tests.command_line import make_folder, make_weights
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


def test_training_for_a_budget(given, tmp_path, ftwt_command):
    out = tmp_path / "run"
    train = ("train", BEST, *given, "--reduction", 0.4)
    record = ftwt_command(*train, "--out", out, "--json").json()
    assert record == json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["reduction"] == record["budget"]["calibrated"]["reduction"] == 0.4
    narrow, whole = storage.load(out)[0].gated
    share, _ = Escalation().shares(0.4)
    assert 0.9 * share * whole.dense_macs < narrow.dense_macs <= share * whole.dense_macs
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


def test_a_budget_that_leaves_no_room_for_the_whole_network(given, tmp_path, ftwt_command):
    out = tmp_path / "run"
    train = ("train", BEST, *given, "--reduction", 0.6)
    assert ftwt_command(*train, "--out", out).status == 0
    model, _ = storage.load(out)
    shares = Escalation().shares(0.6)
    assert shares[1] < 1
    dense = storage.load(out / "dense.safetensors")[0]
    macs = ftwt.macs.dense_macs(dense, torch.zeros(1, 3, 32, 32))
    assert model.dense_macs == macs
    for setting, share in zip(model.gated, shares, strict=True):
        assert 0.9 * share * macs < setting.dense_macs <= share * macs
    # Reductions are shares of the whole network, which no setting runs.
    images = torch.randn(6, 3, 32, 32)
    for threshold, passes in ((0.0, 1), (1.0, 2)):
        trace = model.with_thresholds([threshold]).trace(images)
        spent = sum(one.dense_macs for one in model.gated[:passes])
        torch.testing.assert_close(
            trace.macs, torch.full((6,), float(spent), dtype=trace.macs.dtype)
        )
        assert trace.dense_macs == macs
    value = ftwt_command("eval", out, "--data", given[1], "--json").json()
    assert value["dense_macs"] == macs
    assert value["reduction_exact"] == pytest.approx(1 - value["macs"] / macs)


@given_drawn(st.floats(0.05, 0.95), st.floats(0.1, 0.9), st.floats(1.05, 3))
def test_the_first_pass_fits_the_budget_and_the_last_exceeds_it(reduction, first, last):
    shares = Escalation(first=first, last=last).shares(reduction)
    assert shares[0] < 1 - reduction < shares[1] <= 1
    assert shares[1] == 1 or shares[1] < Escalation().whole_from


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"first": 1.0}, "outside"), ({"last": 1.0}, "not above 1"), ({"whole_from": 0.0}, "outside")],
)
def test_stages_that_are_none_are_refused(wrong, told):
    with pytest.raises(ftwt.FtwtError, match=told):
        Escalation(**wrong)


def test_what_it_needs_and_what_it_has_no_use_for(given, tmp_path, ftwt_command):
    out = ("--out", tmp_path / "run")
    refused(ftwt_command("train", BEST, *given, *out), "it needs one; give --reduction")
    for option in ("--distill", "--per-layer"):
        answer = ftwt_command("train", BEST, *given, *out, option, "--reduction", 0.5)
        assert answer.status == 2
        assert "has no gates" in answer.err
    alone = ("train", BEST, "--data", given[1], *out, "--reduction", 0.5)
    refused(ftwt_command(*alone), "give the dense run as --init")
    # So that the same command with --init has its folder.
    assert not list((tmp_path / "run").glob("*"))
    assert ftwt_command("train", BEST, *given, *out, "--reduction", 0.99).status == 2
