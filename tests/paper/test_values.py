"""`ftwt paper` at its smallest size: what its values have to satisfy."""

import csv
import io
import json
import shutil
from dataclasses import replace

import pytest
import torch

from ftwt import analysis, training
from ftwt.reports.paper import (
    ITEMS,
    Study,
    fig1,
    fig2,
    items,
    make,
    scale,
    table2,
    table3,
    write_page,
)
from ftwt.reports.paper.runs import read_run
from ftwt.reports.paper.table2 import OverSeeds
from ftwt.training.runs import Callbacks
from tests.paper.reports import (
    MAIN,
    SHARES,
    arguments,
    refused_after_progress,
    replace_runs,
)
from tests.small import refused
from tests.test_analysis import outline


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


@pytest.mark.parametrize(("accuracy", "said"), [(0.11, True), (0.19, True), (0.2, False)])
def test_gaps_to_a_network_that_guesses_are_said_to_mean_nothing(values, accuracy, said):
    rivals = tuple(fig1.Rival(**one) for one in values["fig1"]["result"]["panels"][0]["rivals"])
    learned = fig1.Panel("resnet56", 0.9, 0.1, 1000, rivals, ())
    drawn, _ = fig1.ITEM.show(
        fig1.Gaps((learned, replace(learned, network="vgg", accuracy=accuracy)))
    )
    assert ("vgg did little better than guessing (10 %)" in drawn.caption) == said
    assert "resnet56 did" not in drawn.caption


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
    (group,) = table2.ITEM.measure(twice).groups
    assert all(getattr(group, name).std == 0 for name in SHARES)
    one = OverSeeds((0.1,))
    assert one.std is None
    assert OverSeeds((0.1, 0.3)).std == pytest.approx(0.2 / 2**0.5)


def test_a_line_is_interpolated_within_its_points_only():
    line = [(0.2, 0.9), (0.4, 0.8), (0.4, 0.8)]
    assert table3.interpolate(line, 0.25) == pytest.approx(0.875)
    assert table3.interpolate(line, 0.2) == 0.9
    assert table3.interpolate(line, 0.4) == pytest.approx(0.8)
    assert table3.interpolate(line, 0.1) is None
    assert table3.interpolate([], 0.1) is None


def test_joint_is_compared_with_what_was_trained_alike(study):
    joint = next(run for run in study.given if "joint" in run.name)
    found = table3.ITEM.measure(replace_runs(study, study.given[0], joint))
    assert [one.coupling for one in found.runs] == ["decoupled", "joint"]
    assert found.runs[1].accuracy == study.tested(joint).accuracy
    longer = replace(joint, record=joint.record | {"epochs": 9})
    refused("no network has both", table3.ITEM.measure, replace_runs(study, study.given[0], longer))


def test_trainings_are_never_repeated(report, ftwt_command):
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
        tmp_path,
        dataset,
        scale("tiny", "shapes"),
        callbacks=lambda name, epochs: Callbacks(epoch=stop),
    )
    with pytest.raises(Stopped):
        fig2.ITEM.train(stopping)
    assert json.loads((runs / MAIN / "run.json").read_text())["status"] != "finished"
    study = Study(tmp_path, dataset, scale("tiny", "shapes"))
    fig2.ITEM.train(study)
    assert [run.name for run in study.runs] == ["resnet8-dense", MAIN]
    assert (runs / "resnet8-dense" / "model.safetensors").stat().st_mtime_ns == kept
    one, two = (read_run(root / MAIN).model.state_dict() for root in (runs, report / "runs"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_page_is_made_from_the_files_alone(report, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(report, copy, ignore=shutil.ignore_patterns("runs", "index.html"))
    page = write_page(copy)
    assert page.read_bytes() == (report / "index.html").read_bytes()
    refused("holds no item", write_page, tmp_path)


def test_given_runs_are_not_trained_and_missing_items_say_why(
    report, tmp_path, ftwt_command
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


def test_narrower_networks_are_those_of_the_same_kind(study):
    (panel,) = fig1.ITEM.measure(study).panels
    assert panel.network == "mobilenet_v1-x0.5"
    names = [rival.name for rival in panel.rivals]
    assert names == ["gates, r = 0.9, decoupled", "plain mobilenet_v1-x0.25"]
    narrow = panel.rivals[1]
    plain = [run for run in study.given if run.how == "plain"]
    macs = {run.network: study.tested(run).dense_macs for run in plain}
    assert macs["cifar10-mobilenet_v1-x0.5"] == 12_167_168
    cut = 1 - macs["cifar10-mobilenet_v1-x0.25"] / 12_167_168
    assert narrow.reduction_exact == narrow.reduction_paper == pytest.approx(cut)
