"""Run folders of other tasks than classification, on data that a file makes itself."""

import json
import re
import sys
from dataclasses import replace

import pytest
import torch

import ftwt
from ftwt import data, tables, training
from ftwt.training import tasks

FILE = """
import torch
from torch import nn

import ftwt
from ftwt import data, gates, losses, targets, training
from ftwt.training import tasks


def net(num_classes=3):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, num_classes, 1),
    )


def batches(seed):
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 3, 8, 8, generator=draw)
    return list(zip(images.split(4), (images.mean(1) > 0).long().split(4), strict=True))


def dataset():
    return data.Loaders(batches(0), batches(1), batches(2), ("back", "front", "none"))


recipe = training.Recipe(
    net,
    training.Settings((training.Phase("both", 1),), training.AdamW(1e-3), training.Sgd(0.1)),
    losses.PixelCrossEntropy() + losses.GateBCE(),
    ftwt.Pruning(gates.PooledLinear(), targets.HeatmapMass(0.9)),
    batch_size=4,
    task=tasks.Segmentation(3),
)
"""


@pytest.fixture
def file(recipe_file):
    """The recipe."""
    return recipe_file("my_scenes", FILE)


def test_a_segmentation_run_trains_evaluates_is_timed_and_exported(
    ftwt_command, file, tmp_path, monkeypatch
):  # fmt: skip
    pytest.importorskip("torchmetrics")
    run = tmp_path / "run"
    dense = ftwt_command("train", file, "--dense", "--out", tmp_path / "dense")
    assert "best validation mean_iou" in dense.out
    record = ftwt_command(
        "train", file, "--data", file, "--init", tmp_path / "dense", "--out", run, "--json"
    ).json()
    assert record["data"] == {"name": str(file), "train_batches": 2}
    assert 0 <= record["best_validation_mean_iou"] <= 1

    found = ftwt_command("eval", run, "--data", file, "--json").json()
    module = sys.modules["my_scenes"]
    model, _ = ftwt.load(run)
    for name, network in (("", model), ("dense_", ftwt.load(tmp_path / "dense")[0])):
        seen = training.evaluate(network, module.batches(2), task=tasks.Segmentation(3))
        assert found[f"{name}metrics"] == pytest.approx(dict(seen.metrics))
        assert found[f"{name}accuracy"] == pytest.approx(seen.accuracy)
    assert found["images"] == 8
    assert json.loads((run / "eval.json").read_text()) == found
    shown = ftwt_command("eval", run, "--data", file).out
    assert tables.metric("mean_iou", found["metrics"]["mean_iou"]) in shown
    plain = ftwt_command("eval", tmp_path / "dense", "--data", file, "--json").json()
    assert plain["metrics"] == found["dense_metrics"]

    def timing(plain, gated, images, **how):
        assert plain(images).shape == gated(images).shape == (len(images), 3, 8, 8)
        raise ftwt.FtwtError("both ran")

    monkeypatch.setattr("ftwt.reports.timing.bench", timing)
    assert "both ran" in ftwt_command("bench", run, "--network", file).err
    told = ftwt_command("export", run, "--format", "native", "--network", file, "--json")
    assert told.json()["format"] == "native"
    small = ftwt_command("slim", run, "--data", file, "--out", tmp_path / "small", "--json").json()
    assert small["images"] == small["same_class"] == 8
    assert small["filters_left"] <= small["filters"]
    assert ftwt_command("eval", tmp_path / "small", "--data", file).status == 0


def test_a_segmentation_recipe_is_swept_and_trained_to_a_budget(
    ftwt_command, file, tmp_path
):  # fmt: skip
    pytest.importorskip("torchmetrics")
    pytest.importorskip("matplotlib")
    file.write_text(FILE.replace("randn(8", "randn(20"))
    start = ("--init", tmp_path / "dense")
    ftwt_command("train", file, "--dense", "--out", tmp_path / "dense")
    swept = ("sweep", file, *start, "--mass", 0.8, "--seeds", 1, "--out", tmp_path / "sweep")
    found = ftwt_command(*swept, "--json").json()
    tested = json.loads((tmp_path / "sweep" / "mass0.8-seed0" / "eval.json").read_text())
    (row,) = found["rows"]
    assert (row["score"], row["accuracy"]) == ("mean_iou", tested["metrics"]["mean_iou"])
    assert found["dense_accuracy"] == tested["dense_metrics"]["mean_iou"]
    assert "mean_iou" in ftwt_command(*swept).out
    budget = ftwt_command(
        "train", file, *start, "--reduction", 0.2, "--out", tmp_path / "run", "--json"
    ).json()["budget"]["calibrated"]
    seen = training.evaluate(
        ftwt.load(tmp_path / "run")[0], sys.modules["my_scenes"].batches(1),
        task=tasks.Segmentation(3),
    )  # fmt: skip
    assert budget["measured"] == pytest.approx(seen.reduction_exact)
    assert budget["accuracy"] == pytest.approx(seen.metrics["mean_iou"])


def test_what_a_files_own_data_cannot_do_is_one_line(
    ftwt_command, file, tmp_path, monkeypatch
):  # fmt: skip
    def refused(*arguments):
        answer = ftwt_command(*arguments, "--out", tmp_path / "run")
        assert answer.status == 2
        return answer.err

    assert "Missing option '--data'" in refused("train", "shapes-resnet8")
    train = ("train", file, "--data", file)
    assert "--limit 3 is what dataset() of" in refused(*train, "--limit", 3)
    said = refused("estimate", "cifar10-resnet8", "--data", file)
    assert "makes data.Loaders, which training and evaluation take" in said
    module = sys.modules["my_scenes"]
    made = module.dataset()
    cases = (
        (lambda: 3, "gives a int"),
        (lambda: made.nothing, "fails: AttributeError"),
        (lambda: data.Loaders(iter(made.train), [], [], ("a",)), "cannot be iterated again"),
        (lambda: data.Loaders([], [], [], ("a",)), "without a length or batches"),
        (lambda: data.Loaders(made.train, [], [], "ab"), "classes='ab'; give a tuple"),
        (lambda: data.Loaders(made.train[:1] * 2, [], [], ("a", "b")), "knows 2 classes|gave no"),
        (
            lambda: data.Loaders([one[:1] for one in made.train], [], [], ("a", "b")),
            r"the loader gave \(Tensor\)",
        ),
    )
    for dataset, match in cases:
        monkeypatch.setattr(module, "dataset", dataset)
        assert re.search(match, refused(*train)), match
        for left in (tmp_path / "run").glob("*"):
            left.unlink()
    monkeypatch.delattr(module, "dataset")
    assert "should define `dataset`" in refused(*train)


def test_a_detector_without_its_part_and_batches_of_another_size_are_refused(file, tmp_path):
    made = training.recipe(str(file), training.Overrides())
    loaders = data.load_any(str(file))
    for changed, match in (
        ({"task": tasks.Detection()}, "say which of its modules gets the gates"),
        ({"batch_size": 8}, "make steps of 4 images, and the recipe says batch_size=8"),
    ):
        with pytest.raises(ftwt.FtwtError, match=match):
            training.runs.train_run(replace(made, **changed), loaders, tmp_path / "run")


def test_an_interrupted_run_of_ones_own_loaders_goes_on_but_not_with_others(file, tmp_path):
    class StopError(Exception):
        """Stands for a killed process."""

    made = training.recipe(str(file), training.Overrides(epochs=2))
    loaders = data.load_any(str(file))

    def stop(row):
        raise StopError

    whole, _ = training.runs.train_run(made, loaders, tmp_path / "whole")
    broken = training.runs.Callbacks(step=lambda event: stop(event) if event.epoch else None)
    with pytest.raises(StopError):
        training.runs.train_run(made, loaders, tmp_path / "run", callbacks=broken)
    others = replace(loaders, validation=loaders.test)
    with pytest.raises(ftwt.FtwtError, match="images"):
        training.runs.train_run(made, others, tmp_path / "run", resume=True)
    resumed, _ = training.runs.train_run(made, loaders, tmp_path / "run", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


STRANGE = torch.full((4, 8, 8), 7)


def test_labels_that_are_no_class_are_refused_by_name(file):
    pytest.importorskip("torchmetrics")
    made = training.recipe(str(file), training.Overrides())
    network = made.build(3)
    images = torch.zeros(4, 3, 8, 8)
    maps, vectors = tasks.Segmentation(3), tasks.Classification()
    pooled = torch.nn.Sequential(network, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    for task, model, labels, match in (
        (maps, network, STRANGE, "holds 7, but the network knows the classes 0 to 2"),
        (maps, network, STRANGE - 8, "holds -1"),
        (maps, network, STRANGE[:, None], r"shape \(4, 1, 8, 8\).* of shape \(4, 8, 8\)"),
        (maps, network, STRANGE.float(), "type torch.float32, expected the class of each"),
        (maps, network, STRANGE.numpy(), "the loader gave .*ndarray"),
        (vectors, pooled, torch.tensor([0, 1, 2, 7]), "a label is 7, but the network knows"),
        (vectors, pooled, torch.tensor([0, 1, 2, -1]), "a label is -1, but the network knows"),
    ):
        with pytest.raises(ftwt.FtwtError, match=match) as told:
            training.evaluate(model, [(images, labels)], task=task)
        assert "\n" not in str(told.value)
        settings = training.Settings((training.Phase("dense", 1),), training.Sgd(0.1))
        state = training.start(model, settings, 1)
        with pytest.raises(ftwt.FtwtError) as told:
            training.fit(state, task.loss(), settings, [(images, labels)], [], task=task)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ({"boxes": [[0, 0, 5, 5]], "labels": torch.tensor([1])}, "has no"),
        ({"boxes": torch.tensor([[5.0, 0, 5, 9]]), "labels": torch.tensor([1])}, "has no area"),
        ({"boxes": torch.tensor([[0, 0, 5, 5]]), "labels": torch.tensor([1])}, "type torch.int64"),
        ({"boxes": torch.zeros(1, 4), "labels": torch.tensor([1, 2])}, r"expected \(N, 4\)"),
    ],
)
def test_targets_of_detection_that_do_not_fit_are_one_line(target, match):
    with pytest.raises(ftwt.FtwtError, match=match) as told:
        tasks.Detection().pair(([torch.zeros(3, 8, 8)], [target]), "fit")
    assert "\n" not in str(told.value)
