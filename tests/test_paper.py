"""`ftwt paper` at its smallest size: what its values have to satisfy, and its refusals."""

import csv
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ftwt_cli.app import main

from ftwt import FtwtError, analysis, data, training
from ftwt.paper import (
    ITEMS,
    Study,
    fig1,
    fig2,
    items,
    make,
    read_runs,
    scale,
    table2,
    table3,
    write_page,
)
from ftwt.paper.runs import read_run
from ftwt.paper.table2 import Spread
from ftwt.training.runs import Watch
from tests.command_line import ftwt_command  # noqa: F401 - a fixture
from tests.test_analysis import outline
from tests.test_cli import refused

MAIN = "resnet8-mass0.85-decoupled-seed0"
SHARES = ("accuracy", "reduction_exact", "reduction_paper")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of the whole report, made by the command line."""
    out = tmp_path_factory.mktemp("paper") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ftwt", *arguments("all", out)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    return out


def arguments(name: str, out: Path, *more: object) -> list[str]:
    return list(
        map(str, ("paper", name, "--data", "shapes", "--scale", "tiny", "--out", out, *more))
    )


@pytest.fixture(scope="module")
def dataset():
    return data.load("shapes")


@pytest.fixture(scope="module")
def study(report, dataset):
    """The same runs, given."""
    folders = sorted((report / "runs").iterdir(), key=lambda folder: folder.name != MAIN)
    return Study(report, dataset, scale("tiny", "shapes"), read_runs(folders))


@pytest.fixture(scope="module")
def values(report):
    return {item.name: json.loads((report / f"{item.name}.json").read_text()) for item in ITEMS}


def test_every_item_has_its_files_and_the_page_holds_them(report, values):
    assert len(ITEMS) == 8
    for item in ITEMS:
        for kind in ("json", "csv", "png", "svg"):
            assert (report / f"{item.name}.{kind}").stat().st_size > 0
    html = (report / "index.html").read_text()
    parser = outline(html)
    assert {item.heading for item in ITEMS} <= set(parser.text)
    pictures = [one for value in values.values() for one in value["page"]["content"]]
    sources = [value for name, value in parser.attributes if name in ("src", "href")]
    assert len(sources) == sum("picture" in one for one in pictures)
    assert all(source.startswith("data:image/") for source in sources)
    assert "<script" not in html
    assert "http" not in html


def test_csv_files_hold_the_page_s_rows(report, values):
    for value in values.values():
        for one in value["page"]["content"]:
            if "csv" in one:
                rows = list(csv.reader(io.StringIO((report / one["csv"]).read_text())))
                assert len(rows) == len(one["rows"]) + 1
                assert len(rows[0]) == len(one["columns"])


def test_published_and_measured_never_share_a_column_and_conventions_are_named(values):
    labelled = 0
    for value in values.values():
        for one in value["page"]["content"]:
            if "csv" not in one:
                continue
            published = one["csv"].endswith("-published.csv")
            assert one["caption"].startswith("Published") == published
            for label in one["columns"]:
                assert published or "published" not in label
                if "MAC" in label:
                    labelled += 1
                    assert any(name in label for name in ("exact", "paper's count", "own count"))
    assert labelled > 10


def test_values_are_those_of_the_runs(study, values):
    """What the files say is what a look at the runs finds, from real trainings."""
    run = study.given[0]
    assert run.record["hours"] > 0
    seen = analysis.activity(run.model, study.batches(study.test))
    rows = values["static"]["result"]["rows"]
    mine = [row for row in rows if row["trained"] and row["accuracy"] == seen.accuracy]
    assert seen.reduction_exact in [row["reduction_exact"] for row in mine]
    clean = values["ood"]["result"]["shifts"][0]
    few = study.batches(study.dataset.test.select(_balanced(study)))
    assert clean["accuracy"] == training.evaluate(run.model, few).accuracy
    assert clean["dense_accuracy"] == training.evaluate(run.start(), few).accuracy
    listed = {run["name"]: run for run in values["table1"]["runs"]}
    assert len(listed) == 9
    hours = [row["dense_hours"] + row["gated_hours"] for row in values["table1"]["result"]["costs"]]
    assert sum(hours) == pytest.approx(sum(one["hours"] for one in listed.values()))


def _balanced(study):
    from ftwt.data.splits import balanced_prefix

    hundred = balanced_prefix(study.dataset.test.labels, 100)
    return hundred[balanced_prefix(study.dataset.test.labels[hundred], 50)]


def test_core_filters_are_some_of_all(values):
    layers = values["fig2"]["result"]["layers"]
    assert len(layers) == 7
    for layer in layers:
        assert 0 <= len(layer["core"]) <= layer["filters"]
        assert not set(layer["core"]) & set(layer["never"])
        parts = len(layer["core"]) + len(layer["never"]) + sum(layer["between"])
        assert parts == layer["filters"]


def test_without_filters_that_never_run_the_network_is_smaller(values):
    value = values["fig2"]["result"]["without_never"]
    never = sum(len(layer["never"]) for layer in values["fig2"]["result"]["layers"])
    assert value["filters"] - value["filters_left"] == never > 0
    assert value["macs"] == 12_239_488
    assert 0 < value["macs_left"] < value["macs"]
    assert 0 < value["parameters_left"] < value["parameters"]


def test_shares_are_fractions(values):
    rows = [
        *values["ood"]["result"]["shifts"],
        *values["static"]["result"]["rows"],
        *values["table3"]["result"]["runs"],
        *(rival for one in values["fig1"]["result"]["panels"] for rival in one["rivals"]),
    ]
    assert len(rows) > 40
    assert all(0 <= row[name] <= 1 for row in rows for name in SHARES)
    for one in values["fig3"]["result"]["similarity"]:
        assert 0 <= one["cosine"] <= 1
        assert 0 <= one["iou"] <= 1
        assert 0 < one["kept_share"] <= 1
    for panel in values["fig1"]["result"]["panels"]:
        for rival in panel["rivals"]:
            assert rival["gap"] == pytest.approx(panel["accuracy"] - rival["accuracy"])


def test_every_shift_has_five_strengths(values):
    ranks: dict[str, list[int]] = {}
    for row in values["ood"]["result"]["shifts"][1:]:
        ranks.setdefault(row["shift"], []).append(row["rank"])
    assert ranks == {shift.name: [1, 2, 3, 4, 5] for shift in analysis.SHIFTS}
    assert len(ranks) == 5


def test_static_masks_cost_no_more_than_what_they_are_compared_with(study, values):
    # On the held-out images, by which they were made.
    mass = analysis.activity(study.given[0].gated, study.validation)
    (static,) = [row for row in values["static"]["result"]["rows"] if row["how"] == "static"]
    assert 0.9 * mass.mean_macs < static["macs"] <= mass.mean_macs


def test_the_same_run_twice_has_no_deviation(study):
    twice = replace_runs(study, study.given[0], study.given[0])
    (group,) = table2.measure(twice).groups
    assert all(getattr(group, name).std == 0 for name in SHARES)
    one = Spread((0.1,))
    assert one.std is None
    assert Spread((0.1, 0.3)).std == pytest.approx(0.2 / 2**0.5)


def replace_runs(study, *runs):
    return replace(study, given=runs, _measured=study._measured)


def test_a_line_is_interpolated_within_its_points_only():
    line = [(0.2, 0.9), (0.4, 0.8), (0.4, 0.8)]
    assert table3.interpolate(line, 0.25) == pytest.approx(0.875)
    assert table3.interpolate(line, 0.2) == 0.9
    assert table3.interpolate(line, 0.4) == pytest.approx(0.8)
    assert table3.interpolate(line, 0.1) is None
    assert table3.interpolate([], 0.1) is None


def test_joint_is_compared_with_what_was_trained_alike(study):
    joint = next(run for run in study.given if "joint" in run.name)
    found = table3.measure(replace_runs(study, study.given[0], joint))
    assert [one.coupling for one in found.runs] == ["decoupled", "joint"]
    assert found.runs[1].accuracy == study.tested(joint).accuracy
    longer = replace(joint, record=joint.record | {"epochs": 9})
    with pytest.raises(FtwtError, match="no network has both"):
        table3.measure(replace_runs(study, study.given[0], longer))


def test_trainings_are_never_repeated(report, ftwt_command):  # noqa: F811
    files = {file: file.stat().st_mtime_ns for file in (report / "runs").rglob("*.safetensors")}
    before = (report / "fig1.json").read_bytes()
    answer = ftwt_command(*arguments("table3", report, "--json"))
    assert set(answer.json()["items"]) == {"table3"}
    assert "epoch" not in answer.err
    again = {file: file.stat().st_mtime_ns for file in (report / "runs").rglob("*.safetensors")}
    assert again == files
    # The page keeps the items that were made before.
    assert (report / "fig1.json").read_bytes() == before
    assert "Figure 1" in (report / "index.html").read_text()


class Stopped(Exception):
    """As if the process had been killed."""


def test_what_was_interrupted_goes_on(report, dataset, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(report / "runs" / "resnet8-dense", runs / "resnet8-dense")
    kept = (runs / "resnet8-dense" / "model.safetensors").stat().st_mtime_ns

    def stop(row):
        raise Stopped

    stopping = Study(
        tmp_path, dataset, scale("tiny", "shapes"), watch=lambda name, epochs: Watch(epoch=stop)
    )
    with pytest.raises(Stopped):
        fig2.train(stopping)
    assert json.loads((runs / MAIN / "run.json").read_text())["status"] != "finished"
    study = Study(tmp_path, dataset, scale("tiny", "shapes"))
    fig2.train(study)
    assert [run.name for run in study.runs] == ["resnet8-dense", MAIN]
    assert (runs / "resnet8-dense" / "model.safetensors").stat().st_mtime_ns == kept
    one, two = (read_run(root / MAIN).model.state_dict() for root in (runs, report / "runs"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_page_is_made_from_the_files_alone(report, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(report, copy, ignore=shutil.ignore_patterns("runs", "index.html"))
    page = write_page(copy)
    assert page.read_bytes() == (report / "index.html").read_bytes()
    with pytest.raises(FtwtError, match="holds no item"):
        write_page(tmp_path)


def test_given_runs_are_not_trained_and_missing_items_say_why(
    report, tmp_path, ftwt_command  # noqa: F811
):  # fmt: skip
    out = tmp_path / "given"
    found = ftwt_command(*arguments("table2", out, "--runs", report / "runs" / MAIN))
    refused_after_progress(found, "table2 needs runs with gates that differ in their seed alone")
    fine = ftwt_command(*arguments("fig2", out, "--runs", report / "runs" / MAIN, "--json")).json()
    assert fine["items"]["fig2"]["run"] == MAIN
    assert not (out / "runs").exists()


def test_of_several_items_those_without_runs_are_left_out(study, tmp_path):
    one = replace_runs(replace(study, folder=tmp_path), study.given[0])
    values = make(one, [*items("fig2"), *items("table3")], made={})
    assert "no network has both" in values["table3"]
    assert "Not made: paper: table3 needs" in (tmp_path / "index.html").read_text()
    assert values["fig2"]["images"] == 100


def test_a_plain_start_is_taken_instead_of_trained(study, tmp_path):
    (plain,) = [run for run in study.given if run.name == "resnet8-dense"]
    started = Study(tmp_path, study.dataset, study.scale, starts=(plain,))
    assert started.dense("cifar10-resnet8").folder == plain.folder
    assert not (tmp_path / "runs").exists()


def test_unknown_layer_offers_names(report, ftwt_command):  # noqa: F811
    answer = ftwt_command(*arguments("fig3", report, "--layer", "layer2.0.con1"))
    refused_after_progress(answer, "no site is named 'layer2.0.con1'", "layer2.0.conv1")


def test_a_run_without_gates(report, study, tmp_path, ftwt_command):  # noqa: F811
    dense = report / "runs" / "resnet8-dense"
    answer = ftwt_command(*arguments("fig2", tmp_path / "new", "--runs", dense))
    refused_after_progress(answer, "no run has gates", "resnet8-dense", "without --dense")
    plain = replace_runs(study, *[run for run in study.given if run.how == "plain"])
    for name in ("fig1", "fig3", "static", "ood", "table2", "table3"):
        with pytest.raises(FtwtError, match=r"with gates|has gates|both"):
            items(name)[0].measure(plain)


def refused_after_progress(answer, *texts):
    answer.err = "\n".join(
        line for line in answer.err.splitlines() if not line.startswith(("training", "measuring"))
    )
    refused(answer, *texts)


def test_too_few_images_for_the_grid(study, report, ftwt_command):  # noqa: F811
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


def test_records_of_mixed_data_are_refused(report, tmp_path, ftwt_command):  # noqa: F811
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
    with pytest.raises(FtwtError, match=r"knows 10 classes .*shapes has 10 .one, "):
        Study(study.folder, replace(dataset, classes=classes), study.scale, study.given[:1])


def test_another_report_is_kept(report, tmp_path, ftwt_command):  # noqa: F811
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
    longer = replace(scale("tiny", "shapes"), dense_epochs=3)
    with pytest.raises(FtwtError, match=r"trained by another recipe, it differs in settings"):
        Study(tmp_path, dataset, longer).dense("cifar10-resnet8")


def test_other_bad_input(report, tmp_path, ftwt_command):  # noqa: F811
    new = tmp_path / "new"
    refused(ftwt_command(*arguments("fig4", new)), "no item 'fig4'; did you mean fig", "all")
    refused(ftwt_command(*arguments("fig2", new, "--scale", "smok")), "did you mean smoke")
    refused(ftwt_command(*arguments("fig2", new, "--mass", "a,b")), "'a,b' is no list of numbers")
    refused(ftwt_command(*arguments("fig2", new, "--mass", "1.5")), "mass=1.5 is outside")
    refused(ftwt_command(*arguments("fig2", new, "--recipe", "vgg")), "'vgg' is unknown")
    refused(ftwt_command(*arguments("fig2", new, "--runs", tmp_path)), "holds no run.json")
    assert not new.exists()
    copy = tmp_path / "copy"
    shutil.copytree(report / "runs" / MAIN, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"status": "running"}))
    refused(ftwt_command(*arguments("fig2", new, "--runs", copy)), "is running", "--resume")
    (copy / "run.json").write_text("{")
    refused(ftwt_command(*arguments("fig2", new, "--runs", copy)), "is no JSON")
    (copy / "run.json").write_text(json.dumps(record))
    (copy / "dense.safetensors").unlink()
    answer = ftwt_command(*arguments("ood", new, "--runs", copy))
    refused_after_progress(answer, "holds no dense.safetensors", "--init")


def test_narrower_networks_are_those_of_the_same_kind(study):
    (panel,) = fig1.measure(study).panels
    assert panel.network == "mobilenet_v1-x0.5"
    names = [rival.name for rival in panel.rivals]
    assert names == ["gates, r = 0.9, decoupled", "plain mobilenet_v1-x0.25"]
    narrow = panel.rivals[1]
    plain = [run for run in study.given if run.how == "plain"]
    macs = {run.network: study.tested(run).dense_macs for run in plain}
    assert macs["cifar10-mobilenet_v1-x0.5"] == 12_167_168
    cut = 1 - macs["cifar10-mobilenet_v1-x0.25"] / 12_167_168
    assert narrow.reduction_exact == narrow.reduction_paper == pytest.approx(cut)
