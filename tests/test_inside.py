"""Networks that are gated in one of their modules, such as detectors: runs, files, refusals."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import ftwt
from ftwt import data, gates, targets, training
from ftwt.gated.within import example_inside, gated_in, with_part
from ftwt.training import tasks

FILE = """
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, faster_rcnn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

import ftwt
from ftwt import data, gates, losses, targets, training
from ftwt.training import tasks


def small(num_classes=3):
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
    )
    backbone.out_channels = 8
    return FasterRCNN(
        backbone, min_size=24, max_size=40,
        rpn_anchor_generator=AnchorGenerator(((16,),), ((1.0,),)),
        rpn_pre_nms_top_n_train=20, rpn_post_nms_top_n_train=10,
        rpn_pre_nms_top_n_test=20, rpn_post_nms_top_n_test=10,
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2), box_head=faster_rcnn.TwoMLPHead(72, 16),
        box_predictor=faster_rcnn.FastRCNNPredictor(16, num_classes),
    )


def batch(seed):
    draw = torch.Generator().manual_seed(seed)
    images = [torch.rand(3, 24, 24 + 8 * one, generator=draw) for one in range(2)]
    boxes = torch.tensor([[2.0, 3.0, 18.0, 20.0]])
    return images, [{"boxes": boxes, "labels": torch.tensor([1 + seed % 2])} for _ in images]


def dataset():
    return data.Loaders(
        [batch(one) for one in range(3)], [batch(8)], [batch(9)], ("none", "even", "odd")
    )


recipe = training.Recipe(
    small,
    training.Settings((training.Phase("both", 2),), training.Sgd(1e-3), training.Sgd(0.1)),
    losses.ModelLosses() + losses.GateBCE(),
    ftwt.Pruning(gates.PooledLinear(), targets.HeatmapMass(0.8)),
    batch_size=2,
    task=tasks.Detection(),
    inside="backbone",
)
"""


@pytest.fixture
def file(recipe_file):
    """A detector's recipe."""
    pytest.importorskip("pycocotools")
    return recipe_file("my_detector", FILE)


def test_a_detector_trains_evaluates_is_timed_and_exported(
    ftwt_command, file, tmp_path, monkeypatch
):  # fmt: skip
    dense, run = tmp_path / "dense", tmp_path / "run"
    assert "best validation map" in ftwt_command("train", file, "--dense", "--out", dense).out
    record = ftwt_command("train", file, "--init", dense, "--out", run, "--json").json()
    assert record["specification"]["inside"] == "backbone"

    found = ftwt_command("eval", run, "--data", file, "--json").json()
    model, card = ftwt.load(run)
    test = [sys.modules["my_detector"].batch(9)]
    task = tasks.Detection()
    seen = training.evaluate(model, test, task=task)
    assert found["metrics"] == pytest.approx(dict(seen.metrics))
    assert (found["macs"], found["dense_macs"]) == pytest.approx((seen.macs, seen.dense_macs))
    assert [row["name"] for row in found["layers"]] == ["0", "2"]
    assert sum(row["dense_macs"] for row in found["layers"]) == found["dense_macs"]
    plain = ftwt_command("eval", dense, "--data", file, "--json").json()
    assert plain["metrics"] == pytest.approx(found["dense_metrics"])
    assert plain["dense_macs"] == plain["macs"] == plain["paper_macs"] == found["dense_macs"]
    with torch.no_grad():
        padded = model.transform(test[0][0])[0].tensors
    assert model.backbone.trace(padded).plan.dense_macs == found["dense_macs"]
    assert card.extra["inside"] == "backbone"

    def timing(plain, gated, images, **how):
        assert plain(images).shape == gated(images).shape == (len(images), 8, 16, 16)
        raise ftwt.FtwtError("both ran")

    monkeypatch.setattr("ftwt.reports.timing.bench", timing)
    assert "both ran" in ftwt_command("bench", run, "--network", file).err
    told = ftwt_command("export", run, "--format", "native", "--network", file, "--json").json()
    assert told["check"].startswith("its backbone alone, ")
    slim = ftwt_command("slim", run, "--data", file, "--out", tmp_path / "slim", "--json").json()
    assert (slim["images"], slim["same_class"], slim["filters"]) == (6, None, 8)
    small, _ = ftwt.load(tmp_path / "slim")
    assert small.backbone.dense_macs <= model.backbone.dense_macs
    refused = ftwt_command(
        "train", file, "--init", dense, "--reduction", 0.2, "--out", tmp_path / "budget"
    )
    assert "train: --reduction: FasterRCNN is gated in its backbone" in refused.err


def test_an_interrupted_run_of_a_detector_goes_on_to_the_same_numbers(file, tmp_path):
    class StopError(Exception):
        """Stands for a killed process."""

    def stop(event):
        if event.epoch:
            raise StopError

    made = training.recipe(str(file), training.Overrides())
    loaders = data.load_any(str(file))
    whole, _ = training.runs.train_run(made, loaders, tmp_path / "whole")
    broken = training.runs.Callbacks(step=stop)
    with pytest.raises(StopError):
        training.runs.train_run(made, loaders, tmp_path / "run", callbacks=broken)
    resumed, _ = training.runs.train_run(made, loaders, tmp_path / "run", resume=True)
    assert all(
        torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items()
    )
    whole_losses, own_losses = (
        [json.loads(line)["losses"] for line in file.read_text().splitlines()]
        for file in (tmp_path / one / "metrics.jsonl" for one in ("whole", "run"))
    )
    assert whole_losses == own_losses


class Branching(nn.Module):
    """Answers by the values of its input, which no trace follows, after layers that one does."""

    def __init__(self, tied=False):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.last = self.body[2] if tied else nn.Linear(8, 4)
        self.unused = nn.Conv2d(3, 8, 3)

    def forward(self, x, scale=1.0):
        features = self.body(x[:, :, :8, :8]).mean((2, 3))
        return self.last(features if x.sum() > 0 else -features)


IMAGES = torch.rand(4, 3, 10, 12)


def test_gates_inside_are_saved_and_loaded_whole(tmp_path):
    torch.manual_seed(0)
    plain = Branching().eval()
    example = example_inside(plain, "body", lambda network: network(IMAGES))
    assert [one.shape for one in example] == [(1, 3, 8, 8)]
    pruning = ftwt.Pruning(gates.PooledLinear(), targets.HeatmapMass(0.5))
    model = with_part(plain, "body", lambda part: ftwt.attach(part, pruning, example=example))
    assert gated_in(plain) is None
    model.body.move_thresholds(dict.fromkeys(model.body.sites, 0.1))
    ftwt.save(model, tmp_path / "it.safetensors", ftwt.Card(None, 4))
    again, _ = ftwt.load(tmp_path / "it.safetensors", Branching())
    assert torch.equal(again(IMAGES), model.eval()(IMAGES))
    assert again.body.thresholds == model.body.thresholds
    with pytest.raises(ftwt.FtwtError, match="has no module 'body' inside"):
        ftwt.load(tmp_path / "it.safetensors", nn.Sequential(nn.Conv2d(3, 8, 3)))


def test_what_cannot_have_gates_inside_is_refused_by_name(file, tmp_path):
    def run(network):
        return network(IMAGES)

    for network, inside, match in (
        (Branching(), "bodi", r"has no module 'bodi' inside; it has body, body.3$"),
        (Branching(), "zzz", r"has no module 'zzz' inside; it has body, last, unused$"),
        (Branching(), "unused", "does not run its unused on a batch"),
    ):
        with pytest.raises(ftwt.FtwtError, match=match):
            example_inside(network, inside, run)
    with pytest.raises(ftwt.FtwtError, match="has last in body as well"):
        with_part(Branching(tied=True), "body", lambda part: part)
    example = IMAGES[:1, :, :8, :8]
    model = with_part(
        Branching(), "body", lambda part: ftwt.attach(part, ftwt.Pruning(), example=example)
    )
    with pytest.raises(ftwt.FtwtError, match=r"gated in its body, .* give model.body"):
        ftwt.calibrate(model, [(IMAGES, torch.zeros(4))], reduction=0.1)
    made = training.recipe(str(file), training.Overrides())
    loaders = data.load_any(str(file))
    for inside, match in (("", 'inside="backbone"'), ("back", "has no module 'back' inside")):
        with pytest.raises(ftwt.FtwtError, match=match):
            training.runs.train_run(replace(made, inside=inside), loaders, tmp_path / "run")
