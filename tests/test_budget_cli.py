"""`estimate`, `train --reduction`, `eval --reductions` and `sweep`, as a user calls them."""

import json
import shutil

import pytest

import ftwt
from tests.command_line import make_folder, make_weights
from tests.test_cli import refused

SHORT = "cifar10-resnet8-short"
NETWORK = "cifar10-resnet8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # A tenth of the training images is held out for validation: enough to calibrate on.
    return make_folder(tmp_path_factory.mktemp("images"), images=60)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def estimate(ftwt_command, folder, weights):
    def call(*more, network=NETWORK):
        data = f"imagefolder:{folder}"
        return ftwt_command("estimate", network, "--data", data, "--init", weights, *more)

    return call


def test_estimate(estimate, tmp_path):
    more = ("--mass", "0.5,0.8,1", "--fraction", "0.5", "--sequential", "--json")
    value = estimate(*more, "--out", tmp_path).json()
    assert [row["mass"] for row in value["rows"]] == [0.5, 0.8, 1.0, None]
    assert [row["fraction"] for row in value["rows"]] == [None, None, None, 0.5]
    assert value["images"] == 12
    for row in value["rows"]:
        assert row["reduction_with_gates"] < row["reduction_exact"]
        applied = row["sequential"]
        assert row["accuracy"] == applied["accuracy"]
        assert row["reduction_exact"] - applied["reduction_exact"] == applied["difference"]
        macs = sum(layer["mean_macs"] for layer in row["layers"])
        assert 1 - macs / value["dense_macs"] == pytest.approx(row["reduction_exact"])
    assert value["rows"][2]["accuracy"] == value["dense_accuracy"]
    assert json.loads((tmp_path / "estimate.json").read_text()) == value
    assert (tmp_path / "estimate.svg").stat().st_size > 1000
    text = estimate("--mass", "0.5")
    assert "with gates" in text.out
    assert estimate("--mass", "0.5", "--json").json()["rows"][0]["accuracy"] is None


def test_estimate_of_what_will_not_do(estimate, ftwt_command, folder, tmp_path):
    refused(estimate("--mass", "0.9,0.8"), "mass 0.8 comes after 0.9", "rising order")
    refused(estimate("--mass", "0.8,0.8"), "mass 0.8 is given twice")
    refused(estimate("--mass", "0.8,much"), "'much' in '0.8,much' is no number")
    refused(estimate("--mass", "0,0.8"), "outside (0, 1]")
    refused(estimate("--mass", "0.8", network="cifar10-resnet21"), "no network is named")
    refused(estimate("--mass", "0.8", network="cifar10-vgg16_bn"), "weights of another network")
    other = make_folder(tmp_path / "three", classes=3, images=10)
    wrong = ftwt_command(
        "estimate", NETWORK, "--data", f"imagefolder:{other}", "--init", tmp_path / "absent"
    )
    refused(wrong, "absent does not exist")


@pytest.fixture(scope="module")
def tuned(folder, weights, tmp_path_factory):
    """A run that was trained for a budget, and one that was stopped before its calibration."""
    return tmp_path_factory.mktemp("tuned") / "run"


def train(ftwt_command, folder, weights, out, *more):
    return ftwt_command(
        "train", SHORT, "--data", f"imagefolder:{folder}", "--init", weights, "--epochs", 2,
        "--out", out, *more,
    )  # fmt: skip


def test_train_for_a_budget(ftwt_command, folder, weights, tuned):
    record = train(ftwt_command, folder, weights, tuned, "--reduction", 0.4, "--json").json()
    assert record == json.loads((tuned / "run.json").read_text())
    budget = record["budget"]
    assert budget["asked"] == 0.4
    assert budget["one_pass"] == pytest.approx(0.4, abs=0.01)
    assert budget["calibrated"]["measured"] == pytest.approx(0.4, abs=0.02)
    assert record["specification"]["pruning"]["target"] == budget["target"]
    model, _ = ftwt.load(tuned)
    assert model.thresholds == budget["calibrated"]["thresholds"]
    assert any(model.thresholds.values())
    value = ftwt_command("eval", tuned, "--data", f"imagefolder:{folder}", "--json").json()
    assert value["reduction_exact"] == pytest.approx(0.4, abs=0.05)


class Killed(Exception):
    """As if the process had been killed."""


def test_a_training_that_lost_its_calibration_gets_it(
    ftwt_command, folder, weights, tuned, tmp_path, monkeypatch, capsys
):  # fmt: skip
    if not tuned.exists():
        assert train(ftwt_command, folder, weights, tuned, "--reduction", 0.4).status == 0
    budget = json.loads((tuned / "run.json").read_text())["budget"]
    stopped = tmp_path / "run"

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        # What comes first after the training.
        patched.setattr("ftwt.budget.train.evaluate", killed)
        with pytest.raises(Killed):
            train(ftwt_command, folder, weights, stopped, "--reduction", 0.4)
    # What it said until then is nothing that the next command says.
    capsys.readouterr()
    record = json.loads((stopped / "run.json").read_text())
    assert record["status"] == "finished"
    assert "budget" not in record
    ask = ("--resume", "--reduction")
    refused(train(ftwt_command, folder, weights, stopped, *ask, 0.3), "with other options")
    again = train(ftwt_command, folder, weights, stopped, *ask, 0.4, "--json").json()
    assert again["budget"] == budget
    finished = train(ftwt_command, folder, weights, stopped, *ask, 0.4)
    refused(finished, "is finished, there is nothing to resume")


def test_budgets_that_will_not_do(ftwt_command, folder, weights, tmp_path):
    def call(*more, start=("--init", weights)):
        return ftwt_command(
            "train", SHORT, "--data", f"imagefolder:{folder}", "--out", tmp_path / "new",
            *start, *more,
        )  # fmt: skip

    refused(call("--reduction", 0.9999), "out of reach, the largest is 0.", "conv1 (0.")
    refused(call("--reduction", 1.5), "--reduction 1.5 is outside [0, 1)")
    refused(call("--reduction", 0.5, start=()), "give the dense run as --init")
    refused(call("--reduction", 0.5, "--dense"), "leave out --dense")
    assert call("--reduction", 0.5, "--mass", 0.9).status == 2
    assert not (tmp_path / "new").exists()


def test_the_curve_of_one_run(ftwt_command, folder, weights, tuned):
    if not tuned.exists():
        assert train(ftwt_command, folder, weights, tuned, "--reduction", 0.4).status == 0
    data = ("--data", f"imagefolder:{folder}")
    before = (tuned / "model.safetensors").read_bytes()
    value = ftwt_command("eval", tuned, *data, "--reductions", "0.3:0.5:0.1", "--json").json()
    assert [row["asked"] for row in value["curve"]] == [0.3, 0.4, 0.5]
    for row in value["curve"]:
        assert row["reduction_exact"] == pytest.approx(row["asked"], abs=0.05)
    assert (tuned / "model.safetensors").read_bytes() == before
    assert "asked" in ftwt_command("eval", tuned, *data, "--reductions", "0.4").out
    for text in ("0.5:0.3:0.1", "0.3:0.5", "0.3:0.5:0", "0.3:0.5:nan"):
        refused(ftwt_command("eval", tuned, *data, "--reductions", text), "is no span")
    refused(ftwt_command("eval", tuned, *data, "--reductions", "0.5,0.4"), "in rising order")
    refused(ftwt_command("eval", tuned, *data, "--reductions", "1.2"), "is outside [0, 1)")


@pytest.fixture
def sweep(ftwt_command, folder, weights, tmp_path):
    def call(*more, mass="0.6,0.9", out=tmp_path / "sweep", recipe=SHORT):
        return ftwt_command(
            "sweep", recipe, "--data", f"imagefolder:{folder}", "--init", weights, "--out", out,
            "--mass", mass, "--epochs", 1, *more,
        )  # fmt: skip

    return call


def test_a_sweep_runs_what_is_missing_and_nothing_twice(sweep, tmp_path):
    out = tmp_path / "sweep"
    first = sweep("--seeds", 1, "--json", mass="0.6").json()
    assert [(row["mass"], row["runs"]) for row in first["rows"]] == [(0.6, 1)]
    assert first["rows"][0]["std_accuracy"] is None
    kept = {path: path.read_bytes() for path in (out / "mass0.6-seed0").iterdir()}
    as_in_version_0_1_0(out / "sweep.json")
    refused(sweep("--normalize", "layer"), "another sweep, with --normalize 'softmax' instead of")
    more = sweep("--seeds", 2, "--json").json()
    assert [(row["mass"], row["runs"]) for row in more["rows"]] == [(0.6, 2), (0.9, 2)]
    assert {path: path.read_bytes() for path in kept} == kept
    assert more["rows"][0]["reduction_exact"] > more["rows"][1]["reduction_exact"]
    runs = [json.loads((out / f"mass0.9-seed{s}" / "eval.json").read_text()) for s in (0, 1)]
    mean = (runs[0]["accuracy"] + runs[1]["accuracy"]) / 2
    assert more["rows"][1]["accuracy"] == pytest.approx(mean)
    spread = abs(runs[0]["reduction_exact"] - runs[1]["reduction_exact"]) / 2**0.5
    assert more["rows"][1]["std_reduction_exact"] == pytest.approx(spread)
    assert (out / "tradeoff.png").is_file()
    # A run that was stopped before its end goes on, and one that was not tested is.
    (out / "mass0.9-seed0" / "eval.json").unlink()
    shutil.rmtree(out / "mass0.9-seed1")
    assert sweep("--seeds", 2, "--json").json() == more


def as_in_version_0_1_0(record):
    """A sweep's overrides were called choices."""
    said = json.loads(record.read_text())
    said["sweep"]["choices"] = said["sweep"].pop("overrides")
    record.write_text(json.dumps(said))


def test_a_sweep_in_two_processes_gives_the_same(sweep, tmp_path):
    threads = ("--threads", 2, "--json")
    one = sweep("--seeds", 1, "--threads", 1, "--json").json()
    two = sweep("--seeds", 1, "--jobs", 2, *threads, out=tmp_path / "two").json()
    assert one["rows"] == two["rows"]


def test_a_sweep_folder_with_other_runs_is_left_alone(sweep, tmp_path):
    assert sweep("--seeds", 1, mass="0.6").status == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused(sweep("--normalize", "layer"), "another sweep, with --normalize 'softmax' instead of")
    refused(sweep(recipe="cifar10-resnet20-short"), "another sweep, with recipe='cifar10-resnet8-")
    refused(sweep(mass="0.9,0.6"), "0.6 comes after 0.9 in masses")
    refused(sweep(mass="0.6,0.6"), "0.6 comes after 0.6 in masses; give each once")
    refused(sweep("--seeds", 0), "--seeds", "greater than or equal to 1")
    refused(sweep(out=tmp_path / "sweep" / "mass0.6-seed0"), "holds no sweep")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    folder = tmp_path / "sweep" / "mass0.6-seed0"
    record = json.loads((folder / "run.json").read_text())
    record["specification"]["batch_size"] = 7
    (folder / "run.json").write_text(json.dumps(record))
    refused(sweep(), "mass0.6-seed0 is a run of another recipe")
