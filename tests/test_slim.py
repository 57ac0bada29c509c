"""`ftwt slim`: from a run to a smaller one that eval, bench and load take."""

import json

import pytest
import torch

import ftwt
from ftwt import data, training
from ftwt.io import storage
from ftwt.training import runs
from tests.command_line import ftwt_command  # noqa: F401 - a fixture
from tests.test_cli import refused


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A gated run on shapes in which some filters never run, and its dense start."""
    folder = tmp_path_factory.mktemp("slim")
    shapes = data.load("shapes", limit=400)
    choices = training.Overrides(mass=0.6, epochs=1)
    for dense in (True, False):
        runs.train_run(
            training.recipe("shapes-resnet8", training.Overrides(epochs=1) if dense else choices,
                            dense=dense),
            shapes, folder / ("dense" if dense else "gated"),
            init=None if dense else folder / "dense",
        )  # fmt: skip
    return folder / "gated"


def test_the_smaller_run_answers_as_the_whole_one(run, tmp_path, ftwt_command):  # noqa: F811
    out = tmp_path / "slim"
    answer = ftwt_command("slim", run, "--data", "shapes", "--limit", 300, "--out", out, "--json")
    value = answer.json()
    assert value == json.loads((out / "slim.json").read_text())
    assert value["images"] == value["same_class"] == 300
    assert value["filters_left"] < value["filters"]
    assert value["parameters_left"] < value["parameters"]
    whole, small = storage.load(run)[0], storage.load(out)[0]
    assert sum(p.numel() for p in small.backbone_parameters()) == value["parameters_left"]
    images = torch.randn(2, 3, *whole.anatomy.expected[0][1:])
    assert ftwt.runtime.skip(small)(images).shape == small(images).shape
    before = ftwt_command("eval", run, "--data", "shapes", "--json").json()
    after = ftwt_command("eval", out, "--data", "shapes", "--json").json()
    assert after["dense_macs_before_slim"] == before["dense_macs"] > after["dense_macs"]
    assert after["dense_accuracy"] == before["dense_accuracy"]
    assert after["macs"] <= before["macs"]
    text = ftwt_command("eval", out, "--data", "shapes").out
    assert text.count("the same before ftwt slim") == 2


def test_bad_input_is_refused_and_nothing_is_lost(run, tmp_path, ftwt_command):  # noqa: F811
    given = ("--data", "shapes", "--limit", 50)
    answer = ftwt_command("slim", run.with_name("dense"), *given, "--out", tmp_path / "one")
    refused(answer, "holds a plain network without gates", "without --dense")
    answer = ftwt_command("slim", run, *given, "--out", run)
    refused(answer, "is not empty; nothing was changed, give a new folder")
    out = tmp_path / "slim"
    assert ftwt_command("slim", run, *given, "--out", out).status == 0
    answer = ftwt_command("slim", out, *given, "--out", tmp_path / "two")
    refused(answer, "filters were removed from this network before; start from the whole one")
    assert not (tmp_path / "two").exists()
