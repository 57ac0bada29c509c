"""The comparison at equal cost: arms, records, and what is recommended."""

import dataclasses
import itertools
import json
import sys

import pytest
import torch

import ftwt
from benchmarks import pages
from benchmarks.pareto import __main__ as command
from benchmarks.pareto import page, record, timing
from benchmarks.pareto.arms import ARMS
from benchmarks.pareto.peers import by_torch_pruning
from benchmarks.pareto.study import Study
from ftwt import data, gates
from ftwt.gated.model import Gated
from ftwt.io import storage
from ftwt.training import Escalation, evaluate
from tests.small import refused, resnet8


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """ResNet-8 on few shapes, for one epoch."""
    folder = tmp_path_factory.mktemp("pareto")
    torch.manual_seed(0)
    storage.save(resnet8(), folder / "start.safetensors", storage.Card("cifar10-resnet8", 10))
    made = Study("cifar10-resnet8", "shapes", folder / "start.safetensors", folder / "runs", 1, 0)
    shapes = data.load("shapes", limit=300)
    few = dataclasses.replace(shapes, test=shapes.test.select(torch.arange(40)))
    made.__dict__["dataset"] = few
    return made


def test_inner_sites_leave_the_sums_alone(study):
    assert study.inner_sites == ("layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1")


@pytest.mark.parametrize("arm", ["static-l2", "static-random"])
def test_a_static_arm_is_narrow_and_costs_what_was_asked(study, arm):
    made = ARMS[arm].make(study, 0.5)
    assert isinstance(made.model, Gated)
    found = record.record(study, arm, 0.5, made.model, made.run)
    assert found["images"] == 40
    assert 0.5 <= found["reduction_exact"] < 0.52
    assert found["macs"] == made.model.dense_macs
    # Of the finished run nothing is trained again, and another recipe's is not taken for it.
    again = ARMS[arm].make(study, 0.5)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again.model(images), made.model(images))
    assert again.run == made.run
    masked = study.recipe(ftwt.Pruning(gates.Fixed({})))
    refused("started differently", study.train, f"{arm}-50", masked, study.start)


def test_escalation_answers_with_a_narrow_network_and_the_dense_control(study):
    made = ARMS["escalated"].make(study, 0.4)
    found = record.record(study, "escalated", 0.4, made.model, made.run)
    control = ARMS["dense"].make(study, 0.4)
    narrow, whole = made.model.gated
    assert narrow.dense_macs <= Escalation().first * study.macs(0.4)
    assert whole.dense_macs == study.dense_macs == found["dense_macs"]
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(whole(images), control.model(images))
    assert made.run["budget"]["calibrated"]["measured"] == pytest.approx(0.43, abs=0.03)
    assert found["reduction_exact"] <= 1 - narrow.dense_macs / study.dense_macs
    assert set(made.run["stages"]) == {"first", "last"}


def test_torch_pruning_keeps_the_filters_that_its_network_has(study):
    pytest.importorskip("torch_pruning")

    def gated(fixed):
        return ftwt.attach(
            study.plain, ftwt.Pruning(fixed), example=study.example, where=study.inner_sites
        )

    whole = gated(gates.Fixed({}))
    for reduction in (0.3, 0.6):
        model = gated(by_torch_pruning(study, whole, study.macs(reduction)))
        left = evaluate(model, [(torch.randn(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))])
        assert reduction <= left.reduction_exact < reduction + 0.04
    refused("Torch-Pruning does not reach 1 MACs", by_torch_pruning, study, whole, 1)


def rows_of(*accuracies, **kept):
    """Rows by arm of records with these accuracies, and reductions other than those asked for."""
    records = [
        {"network": "cifar10-resnet20", "arm": arm, "seed": seed, "epochs": 3, "ms": None,
         "asked": None if arm == "dense" else 0.5, "accuracy": accuracy,
         "reduction_exact": kept.get(arm, 0.5)}
        for arm, seed, accuracy in accuracies
    ]  # fmt: skip
    return page.rows(records)


def test_the_arm_with_the_best_mean_over_seeds_is_recommended():
    found = rows_of(
        ("dense", 0, 0.9), ("dense", 1, 0.91),
        ("lucky", 0, 0.89), ("lucky", 1, 0.80), ("steady", 0, 0.86), ("steady", 1, 0.87),
    )  # fmt: skip
    assert {row["arm"] for row in found if row["recommended"]} == {"steady"}
    drops = {(row["arm"], row["seed"]): row["drop"] for row in found}
    assert drops["steady", 1] == pytest.approx(0.04)
    assert drops["dense", 0] == 0


def test_an_arm_that_costs_more_than_was_asked_is_not_recommended():
    found = rows_of(("dear", 0, 0.89), ("cheap", 0, 0.80), dear=0.48)
    assert {row["arm"] for row in found if row["recommended"]} == {"cheap"}
    assert all(row["drop"] is None for row in found)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_the_order_of_records_does_not_matter(order):
    given = [("a", 0, 0.8), ("b", 0, 0.9), ("c", 0, 0.7)]
    assert rows_of(*(given[i] for i in order)) == rows_of(*given)


def test_goals_stand_beside_what_was_reached():
    found = rows_of(
        ("dense", 0, 0.9),
        ("escalated", 0, 0.897),
        ("static-l2", 0, 0.88),
        ("torch-pruning", 0, 0.86),
    )
    first, *others = page.goals(found).splitlines()[2:]
    assert first == "| resnet20 | 50 | escalated | 0.30 | at most 0.5 | 1.70 | at least 1 |"
    assert all("not measured" in line for line in others)


def test_records_say_how_many_filters_a_site_keeps_and_not_which():
    part = {"type": "Part", "gate": {"type": "Fixed", "masks": {}}, "outputs": [0, 4]}
    gate = {"type": "Narrowed", "parts": {"layer1.0.conv1": part}}
    about = {"stages": {"first": {"status": "finished", "pruning": {"gate": gate}}}, "all": [gate]}
    kept = {"type": "Narrowed", "keeps": {"layer1.0.conv1": 2}}
    assert record.brief(about) == {
        "stages": {"first": {"status": "finished", "pruning": {"gate": kept}}},
        "all": [kept],
    }


def test_the_command_tests_an_arm_once_and_prints_rows(study, tmp_path, monkeypatch, capsys):
    name = record.name_of(study, "static-l2", 0.5)
    kept = {
        "network": study.network, "arm": "static-l2", "seed": 0, "epochs": 1, "asked": 0.5,
        "accuracy": 0.3, "reduction_exact": 0.5, "ms": 1.5,
    }  # fmt: skip
    pages.write(tmp_path / f"{name}.json", kept)
    study.out.mkdir(exist_ok=True)
    # The model for timing; without it, it would be made from the finished run, and not tested.
    (study.out / f"{name}.safetensors").touch()
    given = ["run", study.network, "static-l2", "--epochs", 1, "--data", "shapes", "--start"]
    given += [study.start, "--out", study.out, "--records", tmp_path]
    monkeypatch.setattr(sys, "argv", ["pareto", *map(str, given)])
    command.main()
    assert json.loads(capsys.readouterr().out) == kept
    monkeypatch.setattr(sys, "argv", ["pareto", "table", "--json", "--records", str(tmp_path)])
    command.main()
    assert json.loads(capsys.readouterr().out) == {"rows": page.rows([kept])}
    assert "| resnet8 | 50 | **static-l2** | 0 | 30.00 |  | 50.0 | 1.50 |" in page.table(
        page.rows([kept])
    )


def test_arms_are_timed_on_real_images_side_by_side(study, tmp_path):
    folder = study.out / "timed"
    folder.mkdir(parents=True)
    card = storage.Card("cifar10-resnet8", 10)
    for arm in ("dense", "static-l2", "escalated"):
        made = ARMS[arm].make(study, 0.5)
        storage.save(made.model, folder / f"{arm}.safetensors", card)
    found = timing.timed(["dense", "static-l2", "escalated"], folder, "shapes", 10)
    assert all(one["ms"] > 0 and one["images"] == 10 for one in found.values())
    refused("no records to time", timing.timed, [], folder, "shapes", 10)
