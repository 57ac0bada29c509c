"""`ftwt slim`: from a run to a smaller one that eval, bench and load take."""

import json

import torch

import ftwt
from ftwt.io import storage
from tests.test_cli import refused


def test_the_smaller_run_answers_as_the_whole_one(gated_run, tmp_path, ftwt_command):
    out, images = tmp_path / "slim", ("--data", "shapes", "--limit", 300)
    value = ftwt_command("slim", gated_run, *images, "--out", out, "--json").json()
    assert value == json.loads((out / "slim.json").read_text())
    assert value["images"] == value["same_class"] == 300
    assert value["filters_left"] < value["filters"]
    assert value["parameters_left"] < value["parameters"]
    whole, small = storage.load(gated_run)[0], storage.load(out)[0]
    assert sum(p.numel() for p in small.backbone_parameters()) == value["parameters_left"]
    batch = torch.randn(2, 3, *whole.anatomy.expected[0][1:])
    assert ftwt.runtime.skip(small)(batch).shape == small(batch).shape
    before = ftwt_command("eval", gated_run, *images, "--json").json()
    after = ftwt_command("eval", out, *images, "--json").json()
    assert after["dense_macs_before_slim"] == before["dense_macs"] > after["dense_macs"]
    assert after["dense_accuracy"] == before["dense_accuracy"]
    assert after["macs"] <= before["macs"]
    text = ftwt_command("eval", out, *images).out
    assert text.count("the same before ftwt slim") == 2


def test_bad_input_is_refused_and_nothing_is_lost(gated_run, tmp_path, ftwt_command):
    given = ("--data", "shapes", "--limit", 50)
    answer = ftwt_command("slim", gated_run.with_name("dense"), *given, "--out", tmp_path / "one")
    refused(answer, "holds a plain network without gates", "without --dense")
    answer = ftwt_command("slim", gated_run, *given, "--out", gated_run)
    refused(answer, "is not empty; nothing was changed, give a new folder")
    out = tmp_path / "slim"
    assert ftwt_command("slim", gated_run, *given, "--out", out).status == 0
    answer = ftwt_command("slim", out, *given, "--out", tmp_path / "two")
    refused(answer, "filters were removed from this network before; start from the whole one")
    assert not (tmp_path / "two").exists()
