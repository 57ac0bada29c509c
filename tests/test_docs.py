"""Python blocks of README and docs and examples of docstrings run; pages follow their records."""

import doctest
import importlib
import json
import re
from pathlib import Path

import pytest
import torch

import ftwt
from benchmarks import (
    estimate,
    exports,
    finetune,
    native_c,
    objectives,
    overhead,
    readme,
    results,
    runtime,
    zoo,
)
from benchmarks.pareto import page as pareto_page
from benchmarks.pareto import record as pareto_record
from tests.laws.zoo import names
from tests.small import labelled, resnet8

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Modules whose docstrings hold examples.
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "ftwt").rglob("*.py"))
    if re.search(r"^ +>>> |^>>> ", path.read_text(), re.MULTILINE)
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_blocks_run_one_after_the_other(page, capsys):
    torch.manual_seed(0)
    scope: dict[str, object] = {"__name__": page.stem}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), scope)
    assert set(scope) - {"__name__", "__builtins__"}


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_docstrings_run(module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = ftwt.attach(resnet8(), ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32))
    given = {"torch": torch, "ftwt": ftwt, "model": model, "loader": labelled(8, 4)}
    given["card"] = ftwt.Card("cifar10-resnet8", 10)
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    found = doctest.testmod(importlib.import_module(module), extraglobs=given, optionflags=flags)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_readme_is_made_from_the_records():
    records = pareto_record.read()
    text = readme.README.read_text()
    assert text == readme.text(text, records)
    picture = readme.picture(readme.shown(readme.subject(records), records))
    assert readme.PICTURE.read_text() == picture


def record_of(arm: str, accuracy: float, asked: float | None, ms: float | None = None) -> dict:
    reduction = asked or 0.0
    return {
        "network": "cifar10-resnet20", "epochs": 6, "seed": 0, "arm": arm, "asked": asked,
        "accuracy": accuracy, "reduction_exact": reduction, "macs": 1e6 * (1 - reduction), "ms": ms,
    }  # fmt: skip


def test_readme_shows_the_best_arm_of_each_kind():
    records = [
        record_of("dense", 0.93, None, 1.0),
        record_of("static-l2", 0.90, 0.5, 0.6),
        record_of("torch-pruning", 0.91, 0.5, 0.5),
        record_of("escalated", 0.925, 0.5, 0.7),
        record_of("escalated", 0.915, 0.65, 0.4),
    ]
    assert readme.subject(records) == ("cifar10-resnet20", 6, 0.5)
    rows = readme.table(readme.subject(records), records).splitlines()[2:6]
    assert rows[0] == "| dense | 93.00 |  | 0.0 | 1.00 |"
    assert rows[1] == "| fixed masks (static pruning) | 91.00 | 2.00 | 50.0 | 0.50 |"
    assert rows[2] == "| gates, by image | not measured yet |  |  |  |"
    assert rows[3] == "| **budget for each image** | 92.50 | 0.50 | 50.0 | 0.70 |"
    shown = readme.shown(readme.subject(records), records)
    assert readme.picture(shown).count("<circle") == 4 + 3
    assert "milliseconds" in readme.caption(readme.subject(records), records)


def test_recipes_are_made_from_the_records():
    text = finetune.PAGE.read_text()
    assert text == finetune.page(text, finetune.read())


def test_results_are_made_from_the_records():
    found = results.records()
    assert results.PAGE.read_text() == results.page(found)


def test_records_are_whole_and_belong_together():
    for name, record in results.records().items():
        assert record["status"] == "finished", name
        assert len(record["epochs_log"]) == record["epochs"]
        assert record["test"]["images"] == 10_000
        total = sum(layer["dense_macs"] for layer in record["test"]["layers"])
        assert total in (0, record["test"]["dense_macs"])
        if record["specification"]["pruning"] is not None:
            assert Path(record["init"]).name in results.records()


def test_the_page_of_arms_at_equal_cost_is_made_from_its_records():
    records = pareto_record.read()
    assert pareto_page.PAGE.read_text() == pareto_page.page(records)
    for one in records:
        assert one["images"] == 10_000
        assert one["macs"] == pytest.approx((1 - one["reduction_exact"]) * one["dense_macs"])


@pytest.mark.parametrize("page", native_c.PARTS, ids=name_of)
def test_times_and_sizes_of_programs_in_c_are_made_from_their_records(page):
    records = native_c.records()
    assert set(records) == set(native_c.NETWORKS)
    assert page.read_text() == native_c.page(page, records)


def test_the_program_in_c_is_not_slower_than_python():
    for record in native_c.records().values():
        assert not record["missing"]
        assert record["program_over_python"] >= 1


def test_the_page_of_exports_is_made_from_its_record():
    record = json.loads(exports.RECORD.read_text())
    assert exports.PAGE.read_text() == exports.page(record)
    tried = [row["network"] for row in record["networks"]]
    assert tried == [name for name in names() if name in tried]


def test_the_page_of_objectives_is_made_from_its_record():
    record = json.loads(objectives.RECORD.read_text())
    assert objectives.PAGE.read_text() == objectives.page(record)


def test_the_record_of_objectives_holds_each_run_once():
    record = json.loads(objectives.RECORD.read_text())
    wanted = [(one.objective, one.mass, one.seed) for one in objectives.settings()]
    made = [(one["objective"], one["mass"], one["seed"]) for one in record["runs"]]
    assert made == wanted[: len(made)]
    assert record["dense"]["images"] == 10_000


def test_the_zoos_page_is_made_from_its_record():
    record = json.loads(zoo.RECORD.read_text())
    assert zoo.PAGE.read_text() == zoo.page(record)


def test_the_zoos_record_is_whole():
    """Every network passed, and in the median nearly all zero channels were found."""
    record = json.loads(zoo.RECORD.read_text())
    assert [row["network"] for row in record["networks"]] == names()
    assert not [row for row in record["networks"] if "failed" in row]
    assert zoo.median_tightness(record) >= zoo.TIGHT
    for row in record["networks"]:
        assert 0 <= row["unreached_macs"] < row["dense_macs"], row["network"]
        assert row["found_channels"] <= row["zero_channels"], row["network"]


def test_budgets_are_made_from_their_records():
    assert estimate.PAGE.read_text() == estimate.page(estimate.PAGE.read_text())


def test_the_bench_page_is_made_from_its_records():
    found = runtime.records()
    assert runtime.PAGE.exists() == bool(found)
    if found:
        assert runtime.PAGE.read_text() == runtime.page(found, overhead.records())


@pytest.mark.parametrize("machine", runtime.records())
def test_bench_records_are_of_the_cases_that_they_name(machine):
    for case in runtime.CASES:
        record = runtime.records()[machine].get(case.name)
        if record is not None:
            # Older records are of fewer rounds, as many as their own command says.
            command = ["ftwt", *case.command]
            command[command.index("--repeats") + 1] = str(record["rounds"])
            assert record["command"] == command
            assert record["machine"]["vector_instructions"].lower() == machine
            assert record["machine"]["threads"] == 2
            # With every filter on, gates are what is executed beside the plain network.
            asked = case.reduction
            if asked is None:
                assert -0.2 < record["reduction_exact"] < 0
            else:
                assert record["reduction_exact"] == pytest.approx(asked, abs=0.03)
            assert {"dense, eager", "dense, folded", "masked", "sliced bound"} <= {
                row["name"] for row in record["rows"]
            }
