"""One model trained for several budgets: `ftwt widen`, its phases, and its refusals."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import ftwt
from ftwt import FtwtError, budget, data, training
from ftwt.gated.operating_points import OperatingPoint, thresholds_at
from ftwt.io import storage
from ftwt.training import runs
from tests.test_cli import refused

GRID = (0.2, 0.35, 0.5)


@pytest.fixture(scope="module")
def shapes():
    return data.load("shapes", limit=400)


def widened(gated_run, shapes, out, **options):
    def train(recipe):
        return runs.train_run(recipe, shapes, out, init=gated_run, resume=out.exists())

    return budget.widen(gated_run, shapes, out, reductions=GRID, train=train, epochs=2, **options)


def test_gates_stay_and_thresholds_are_found_again(gated_run, shapes, tmp_path):
    before = storage.load(gated_run)[0]
    model, record = widened(gated_run, shapes, tmp_path / "out")
    for name, value in before.state_dict().items():
        same = torch.equal(value, model.state_dict()[name])
        assert same == name.startswith("gates.") or "num_batches" in name, name
    assert [row["reduction"] for row in record["budgets"]] == list(GRID)
    again, _ = storage.load(tmp_path / "out")
    assert again.operating_points == model.operating_points
    for reduction, point in zip(GRID, again.operating_points, strict=True):
        assert point.reduction == reduction
        assert abs(point.measured - reduction) < 0.02
    written = json.loads((tmp_path / "out" / "run.json").read_text())
    assert written["budgets"] == record["budgets"]
    # Its dense start is told from the run's.
    kept = [(one / "dense.safetensors").read_bytes() for one in (gated_run, tmp_path / "out")]
    assert kept[0] == kept[1]


def test_a_run_that_was_not_calibrated_is_finished(gated_run, shapes, tmp_path):
    out = tmp_path / "out"
    whole, record = widened(gated_run, shapes, out)
    written = json.loads((out / "run.json").read_text())
    del written["budgets"]
    (out / "run.json").write_text(json.dumps(written))
    model, again = widened(gated_run, shapes, out)
    assert model.operating_points == whole.operating_points
    assert again["budgets"] == record["budgets"]
    del written["seed"]
    (out / "run.json").write_text(json.dumps(written))
    with pytest.raises(FtwtError, match="finished training with other options"):
        widened(gated_run, shapes, out, lr=0.5)


def points(model):
    return tuple(
        OperatingPoint(reduction, reduction, 0.0, dict.fromkeys(model.sites, 10 * reduction))
        for reduction in (0.2, 0.4)
    )


def test_batches_run_over_the_whole_range_and_validation_at_its_middle():
    model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32))
    phase = training.Phase("several", 1, train="backbone", operating_points=points(model))
    torch.manual_seed(0)
    drawn = [next(iter(phase.sampled(model).thresholds.values())) for _ in range(300)]
    between = [one for one in drawn if 2 < one < 4]
    assert min(between) < 2.1
    assert max(between) > 3.9
    for end in (2, 4):
        assert 0.07 < drawn.count(pytest.approx(end)) / 300 < 0.19
    assert min(drawn) >= 2
    assert max(drawn) <= 4
    assert phase.validated(model).thresholds == pytest.approx(
        thresholds_at(phase.operating_points, 0.3)
    )
    # The model itself keeps its thresholds, and shares its weights with what was drawn.
    assert set(model.thresholds.values()) == {0.0}
    assert phase.sampled(model).fc.weight is model.fc.weight


def test_a_phase_without_operating_points_draws_nothing():
    model = ftwt.backbones.resnet8()
    state = torch.get_rng_state()
    phase = training.Phase("all", 1)
    assert phase.sampled(model) is phase.validated(model) is model
    assert torch.equal(torch.get_rng_state(), state)


def test_compiling_is_refused():
    model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32))
    phase = training.Phase("several", 1, train="backbone", operating_points=points(model))
    with pytest.raises(FtwtError, match="compile again for each reduction"):
        training.Settings((phase,), training.Sgd(0.1), compile=True)


def test_on_the_command_line(gated_run, tmp_path, ftwt_command):
    out = tmp_path / "out"
    given = ("widen", gated_run, "--data", "shapes", "--limit", 400, "--epochs", 1)
    answer = ftwt_command(*given, "--reductions", "0.2,0.4", "--out", out, "--json")
    assert [row["reduction"] for row in json.loads(answer.out)["budgets"]] == [0.2, 0.4]
    answer = ftwt_command(*given, "--out", out)
    refused(answer, "is not empty", "nothing was changed")
    answer = ftwt_command(*given, "--reductions", "0.4", "--out", tmp_path / "two")
    refused(answer, "one reduction is no range", "0.3:0.6:0.1")
    dense = Path(gated_run).with_name("dense")
    answer = ftwt_command("widen", dense, *given[2:], "--out", tmp_path / "three")
    refused(answer, "holds no network with gates", "without --dense")
    assert not (tmp_path / "three").exists()
    shutil.rmtree(out)
