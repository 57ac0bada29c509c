"""The command line: its fields, its run folders, and one clear line for each bad input."""

import json
import re
import shlex
import subprocess
import sys

import pytest
import safetensors.torch
import torch

import ftwt
from ftwt.io import storage
from ftwt.reports.demo import times as demo_times
from tests.command_line import make_folder, make_weights

SHORT = "cifar10-resnet8-short"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def run(ftwt_command, folder, weights, tmp_path):
    out = tmp_path / "run"
    answer = ftwt_command(
        "train", SHORT, "--data", f"imagefolder:{folder}", "--out", out, "--init", weights,
        "--epochs", 2, "--mass", 0.8, "--json",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    return out


@pytest.mark.parametrize(
    ("network", "macs", "parameters"),
    [
        ("cifar10-vgg16_bn", 313_201_664, 14_728_266),
        ("cifar10-resnet56", 125_485_696, 853_018),
        ("cifar10-mobilenet_v1", 46_354_432, 3_217_226),
        ("cifar10-mobilenet_v2", 91_154_944, 2_296_922),
    ],
)
def test_macs(ftwt_command, network, macs, parameters):
    value = ftwt_command("macs", network, "--json").json()
    assert value["dense_macs"] == macs == sum(layer["dense_macs"] for layer in value["layers"])
    assert value["parameters"] == parameters
    assert value["gate_macs"] == sum(layer["gate_macs"] for layer in value["layers"])


def test_tables_for_people(ftwt_command):
    assert "12,239,488" in ftwt_command("macs", "cifar10-resnet8").out
    assert "shapes-resnet8" in ftwt_command("recipes").out
    sites = ftwt_command("sites", "torchvision:resnet18").out
    assert "shortcut of a residual block" in sites


def test_sites_and_macs_of_any_network(ftwt_command):
    name = "torchvision:googlenet"
    value = ftwt_command("sites", name, "--size", 64, "--json").json()
    assert value["input"] == [3, 64, 64]
    assert {row["site"] for row in value["sites"]} == {True}
    assert value["unknown"] == []
    value = ftwt_command("sites", "torchvision:resnet18", "--size", 64, "--json").json()
    reasons = {row["name"]: row["left_out"] for row in value["sites"]}
    assert reasons["conv1"] is None
    assert reasons["layer2.0.downsample.0"] == "is the shortcut of a residual block"
    whole = ftwt_command("macs", "torchvision:resnet18", "--json").json()
    small = ftwt_command("macs", "torchvision:resnet18", "--size", 112, "--json").json()
    assert whole["dense_macs"] == 1_814_073_344
    assert small["dense_macs"] < whole["dense_macs"] / 3
    pytest.importorskip("timm")
    value = ftwt_command("macs", "timm:mobilenetv3_small_050", "--size", 64, "--json").json()
    assert value["dense_macs"] > 0


def test_help_does_not_wait_for_torch_and_import_is_light():
    """Imports decide: --help takes about 0.2 s, and `import torch` alone over a second."""
    code = (
        "import sys; from ftwt_cli.app import main; sys.argv = ['ftwt', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert "torch" not in _imported(code)
    attach = (
        "import torch, ftwt\n"
        "example = torch.zeros(1, 3, 32, 32)\n"
        "ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(), example=example)"
    )
    # The compiler is a part of torch that by itself takes as long as torch.
    assert not {"matplotlib", "typer", "torchvision", "torch._dynamo"} & _imported(attach)


def _imported(code: str) -> set[str]:
    """Modules that are loaded after running `code` in a new process."""
    tail = "import sys; print('LOADED', *sys.modules)"
    command = [sys.executable, "-c", f"{code}\n{tail}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_a_run_folder_holds_what_it_should(run):
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["epochs"] == 2
    assert record["hours"] > 0
    assert record["versions"]["torch"] == torch.__version__
    assert record["command"][:2] == ["ftwt", "train"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["gates", "frozen gates"]
    assert {path.name for path in run.iterdir()} == {
        "dense.safetensors", "metrics.jsonl", "model.safetensors", "run.json",
    }  # fmt: skip


def test_eval(ftwt_command, run, folder):
    value = ftwt_command("eval", run, "--data", f"imagefolder:{folder}", "--json").json()
    assert 0 < value["reduction_exact"] < value["reduction_paper"] < 1
    assert value["images"] == 40
    assert value["reduction_exact"] == 1 - value["macs"] / value["dense_macs"]
    parts = sum(layer["macs"] + layer["gate_macs"] for layer in value["layers"])
    assert value["macs"] == pytest.approx(parts)
    for layer in value["layers"][:-1]:
        assert layer["always"] + layer["sometimes"] + layer["never"] == layer["filters"]
    assert json.loads((run / "eval.json").read_text()) == value
    assert (
        "MAC reduction, exact" in ftwt_command("eval", run, "--data", f"imagefolder:{folder}").out
    )


def test_a_saved_run_answers_the_same_in_a_new_process(run, tmp_path):
    model, card = storage.load(run)
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.save(images, tmp_path / "images.pt")
    with torch.inference_mode():
        here = model(images)
    code = (
        "import torch, sys; from ftwt.io import storage; torch.set_num_threads(1)\n"
        f"model, card = storage.load({str(run)!r})\n"
        f"images = torch.load({str(tmp_path / 'images.pt')!r}, weights_only=True)\n"
        f"torch.save(model(images).detach(), {str(tmp_path / 'there.pt')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert torch.equal(here, torch.load(tmp_path / "there.pt", weights_only=True))
    assert card.network == "cifar10-resnet8"
    assert card.classes == ("class0", "class1")
    assert isinstance(model, ftwt.Gated)


def refused(answer, *texts: str) -> None:
    """One line on standard error that says all of this, exit status 2, nothing on output."""
    assert answer.status == 2
    assert answer.out == ""
    lines = answer.err.strip().splitlines()
    lines = [line for line in lines if not line.startswith("epoch ")]
    assert len(lines) == 1, answer.err
    for text in texts:
        assert text in lines[0]


@pytest.fixture
def train(ftwt_command, folder, tmp_path):
    def call(*more, recipe=SHORT, data=None, out=tmp_path / "new"):
        data = data or f"imagefolder:{folder}"
        return ftwt_command("train", recipe, "--data", data, "--out", out, "--epochs", 1, *more)

    return call


def test_unknown_recipe(train):
    refused(
        train(recipe="cifar10-resnet21"), "did you mean", "cifar10-resnet20", "`ftwt recipes` lists"
    )


@pytest.mark.parametrize("mass", [0, 1.2])
def test_mass_out_of_range(train, tmp_path, mass):
    refused(train("--mass", mass), "outside (0, 1]")
    assert not (tmp_path / "new").exists()


def test_other_numbers_out_of_range(train):
    refused(train("--epochs", 0), "--epochs", "greater than or equal to 1", "see ftwt train --help")
    refused(train("--seed", -1), "--seed")
    refused(train("--limit", 0), "--limit")
    refused(train("--device", "nowhere"), "device 'nowhere' cannot be used")
    assert train("--threads", 0).status == 2


def test_unknown_coupling(train):
    refused(train("--coupling", "loose"), "--coupling", "'decoupled', 'joint'")
    refused(train("--coupling"), "--coupling", "see ftwt --help")
    refused(train("--mass", "0.9", "--reduction", "0.5"), "give --mass or --reduction, not both")


def test_messages_name_options_and_not_arguments(train):
    refused(train("--clip-norm", -1), "--clip-norm -1.0; give a norm above 0")
    refused(train("--ema", 2), "--ema 2.0 is outside (0, 1)")
    refused(train("--limit", 1), "load(--limit 1)")


def test_what_to_paste_next_is_quoted(ftwt_command, folder, tmp_path):
    odd = folder.rename(folder.parent / "odd names; $(touch x)")
    out = tmp_path / "a run"
    answer = ftwt_command(
        "train", SHORT, "--data", f"imagefolder:{odd}", "--out", out, "--epochs", 1
    )
    line = answer.out.partition("next: ")[2]
    odd.rename(folder)
    wanted = ["ftwt", "eval", str(out), "--data", f"imagefolder:{odd}"]
    assert shlex.split(line) == wanted
    assert re.search(r", \d+ s\nnext: ", answer.out)


def test_bad_data_folders(train, tmp_path):
    refused(train(data=f"imagefolder:{tmp_path / 'absent'}"), "there is no folder", "absent")
    (tmp_path / "empty").mkdir()
    refused(train(data=f"imagefolder:{tmp_path / 'empty'}"), "empty", "train")
    bare = make_folder(tmp_path / "bare", images=2)
    for image in (bare / "train" / "class1").iterdir():
        image.unlink()
    refused(train(data=f"imagefolder:{bare}"), "class1")
    damaged = make_folder(tmp_path / "damaged", images=2)
    (damaged / "train" / "class0" / "000.png").write_bytes(b"no image")
    refused(train(data=f"imagefolder:{damaged}"), "000.png")
    refused(train(data="cifar12"), "cifar12", "cifar10")


def test_an_output_folder_that_holds_a_run_is_left_alone(train, run):
    before = {path: path.read_bytes() for path in run.iterdir()}
    refused(train(out=run), "not empty and may hold another run; nothing was changed")
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    refused(train("--resume", out=run), "is finished, there is nothing to resume")


def test_bad_weights(train, weights, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-100])
    refused(train("--init", cut), "cut.safetensors is not a whole safetensors file")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_text("not a tensor in here")
    refused(train("--init", foreign), "foreign.safetensors is not a whole safetensors file")
    refused(
        train("--init", weights, recipe="cifar10-vgg16_bn-short"),
        "holds weights of another network", "missing", "unexpected",
    )  # fmt: skip
    refused(train("--init", tmp_path / "absent"), "absent does not exist")


def test_eval_diagnoses(ftwt_command, run, folder):
    options = ("eval", run, "--data", f"imagefolder:{folder}", "--diagnose")
    found = ftwt_command(*options, "--json").json()["dynamism"]
    assert found["images"] >= 10
    assert found["rows"][0]["decided_by"] == "the image"
    assert found["shuffled"]["macs"] == pytest.approx(found["macs"])
    shown = " ".join(ftwt_command(*options).out.split())
    assert found["verdict"] in shown


def test_eval_of_what_is_no_run(ftwt_command, weights, folder, tmp_path):
    data = f"imagefolder:{folder}"
    refused(ftwt_command("eval", tmp_path, "--data", data), "holds no model.safetensors")
    refused(ftwt_command("eval", weights, "--data", data), "weights alone, not a model")


def test_a_loss_that_is_not_finite_keeps_the_last_good_weights(train, weights, tmp_path):
    state = safetensors.torch.load_file(weights)
    state["fc.weight"][:] = torch.finfo(torch.float32).max
    broken = tmp_path / "broken.safetensors"
    safetensors.torch.save_file(state, broken)
    answer = train("--init", broken)
    note, said = answer.err.strip().split("\nftwt: ")
    assert note.startswith("note: an epoch has 1 step, few")
    assert "the loss is not finite at epoch 1, batch 1 (CrossEntropy)" in said
    assert (answer.status, answer.out, said.count("\n")) == (2, "", 0)
    assert json.loads((tmp_path / "new" / "run.json").read_text())["status"] == "failed"


def test_demo_in_small(ftwt_command, monkeypatch, tmp_path):
    monkeypatch.setattr(demo_times, "deployed", lambda network, image: ({}, {}))
    out = tmp_path / "demo"
    answer = ftwt_command("demo", "--out", out, "--epochs", 1, "--limit", 300, "--json")
    value = answer.json()
    assert value == json.loads((out / "demo.json").read_text())
    assert 0 < value["reduction_exact"] < value["reduction_paper"] < 1
    assert value["oracle"]["rows"][0]["mass"] == 1.0
    assert value["oracle"]["rows"][0]["accuracy"] == value["oracle"]["dense_accuracy"]
    pictures = ("tradeoff.png", "heatmaps.svg", "masks.svg", "budgets.svg")
    for name in ("index.html", *pictures, "gated/model.safetensors", "shared/model.safetensors"):
        assert (out / name).is_file()
    networks = {row["network"] for row in value["milliseconds"]}
    assert {"dense", "cut to as few filters", "gates, skipping"} < networks
    saved = [row["reduction_exact"] for row in value["shared"]["budgets"]]
    assert saved == sorted(saved)
    page = (out / "index.html").read_text()
    assert all(shlex.split(line)[0] == "ftwt" and line in page for line in value["next"])
    refused(ftwt_command("demo", "--out", out), "not empty")
