"""What `ftwt paper` refuses, and what it leaves alone."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from ftwt import FtwtError
from ftwt.reports.paper import (
    Study,
    items,
    scale,
)
from tests.paper.reports import MAIN, arguments, refused_after_progress, replace_runs
from tests.test_cli import refused


def test_unknown_layer_offers_names(report, ftwt_command):
    answer = ftwt_command(*arguments("fig3", report, "--layer", "layer2.0.con1"))
    refused_after_progress(answer, "no site is named 'layer2.0.con1'", "layer2.0.conv1")


def test_a_run_without_gates(report, study, tmp_path, ftwt_command):
    dense = report / "runs" / "resnet8-dense"
    answer = ftwt_command(*arguments("fig2", tmp_path / "new", "--runs", dense))
    refused_after_progress(answer, "no run has gates", "resnet8-dense", "without --dense")
    plain = replace_runs(study, *[run for run in study.given if run.how == "plain"])
    for name in ("fig1", "fig3", "static", "ood", "table2", "table3"):
        with pytest.raises(FtwtError, match=r"with gates|has gates|both"):
            items(name)[0].measure(plain)


def test_too_few_images_for_the_grid(study, report, ftwt_command):
    answer = ftwt_command(*arguments("fig3", report, "--image", 2000))
    refused_after_progress(answer, "no test image 2000; the 2000 images are 0 to 1999")
    small = replace(study.dataset, test=study.dataset.test.select(torch.tensor([0])))
    one = replace(study, dataset=small, _measured={})
    with pytest.raises(FtwtError, match="the grid takes 2 images, but there are 1"):
        items("fig3")[0].measure(one)


def test_layer_and_images_can_be_chosen(study):
    chosen = replace(study, layer="conv1", places=(7, 3))
    maps = items("fig3")[0].measure(chosen)
    assert maps.maps.site == "conv1"
    assert maps.places == (7, 3)
    assert torch.equal(maps.pixels, study.dataset.test.pixels[[7, 3]])
    assert (maps.maps.kept <= maps.maps.full).all()
    first, again, other = (
        items("fig3")[0].measure(replace(study, seed=seed)).places for seed in (0, 0, 1)
    )
    assert first == again != other


def test_records_of_mixed_data_are_refused(report, tmp_path, ftwt_command):
    other = tmp_path / "other"
    shutil.copytree(report / "runs" / MAIN, other)
    record = json.loads((other / "run.json").read_text())
    record["data"]["name"] = "cifar10"
    (other / "run.json").write_text(json.dumps(record))
    runs = ("--runs", report / "runs" / MAIN, "--runs", other)
    answer = ftwt_command(*arguments("table1", tmp_path / "new", *runs))
    refused(answer, "trained on different data", f"{other} on cifar10", f"{MAIN} on shapes")
    assert not (tmp_path / "new").exists()


def test_runs_of_other_classes_are_refused(study, dataset):
    classes = ("one", *dataset.classes[1:])
    with pytest.raises(FtwtError, match=r"the run alone has disk; shapes alone has one;"):
        Study(study.folder, replace(dataset, classes=classes), study.scale, study.given[:1])


def test_another_report_is_kept(report, tmp_path, ftwt_command):
    before = {file: file.read_bytes() for file in report.iterdir() if file.is_file()}
    answer = ftwt_command(*arguments("all", report, "--seed", 1))
    refused(answer, "holds a report of another study, it differs in seed; nothing was changed")
    assert {file: file.read_bytes() for file in before} == before
    foreign = tmp_path / "thesis.txt"
    foreign.write_text("years of work")
    refused(ftwt_command(*arguments("all", tmp_path)), "not empty", "nothing was changed")
    refused(ftwt_command(*arguments("all", foreign)), "thesis.txt is a file; give a folder")
    assert foreign.read_text() == "years of work"
    assert list(tmp_path.iterdir()) == [foreign]


def test_a_run_of_another_recipe_is_kept(report, dataset, tmp_path):
    shutil.copytree(report / "runs" / "resnet8-dense", tmp_path / "runs" / "resnet8-dense")
    tiny = scale("tiny", "shapes")
    longer = replace(tiny, effort=replace(tiny.effort, dense_epochs=3))
    with pytest.raises(FtwtError, match=r"trained by another recipe, it differs in settings"):
        Study(tmp_path, dataset, longer).dense("cifar10-resnet8")


def test_other_bad_input(report, tmp_path, ftwt_command):
    new = tmp_path / "new"
    refused(ftwt_command(*arguments("fig4", new)), "no item 'fig4'; did you mean fig", "all")
    refused(ftwt_command(*arguments("fig2", new, "--scale", "smok")), "did you mean smoke")
    refused(ftwt_command(*arguments("fig2", new, "--mass", "a,b")), "'a,b' is no list of numbers")
    refused(ftwt_command(*arguments("fig2", new, "--mass", "1.5")), "--mass 1.5 is outside")
    refused(ftwt_command(*arguments("fig2", new, "--recipe", "vgg")), "'vgg' is unknown")
    refused(ftwt_command(*arguments("fig2", new, "--runs", tmp_path)), "holds no run.json")
    assert not new.exists()
    copy = tmp_path / "copy"
    shutil.copytree(report / "runs" / MAIN, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"status": "running"}))
    refused(ftwt_command(*arguments("fig2", new, "--runs", copy)), "is running", "--resume")
    (copy / "run.json").write_text("{")
    refused(ftwt_command(*arguments("fig2", new, "--runs", copy)), "is damaged (no JSON")
    (copy / "run.json").write_text(json.dumps(record))
    (copy / "dense.safetensors").unlink()
    answer = ftwt_command(*arguments("ood", new, "--runs", copy))
    refused_after_progress(answer, "holds no dense.safetensors", "--init")
