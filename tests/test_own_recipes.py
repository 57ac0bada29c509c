"""Recipes in files, networks by any name, and any optimizer of torch."""

import json
import sys
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

import ftwt
from ftwt import backbones, data, gates, losses, targets, training
from ftwt.io import registry, specs
from ftwt.training import Overrides, Phase, Recipe, hints, recipe, runs
from ftwt.training.recipes import source
from ftwt.training.recipes.files import _shortened
from tests.command_line import make_folder
from tests.small import refused

FILE = """
from torch import nn

import beside
import ftwt
from ftwt import gates, losses, targets, training


def tiny(num_classes=10):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )


recipe = training.Recipe(
    NETWORK,
    training.Settings(
        (training.Phase("all", 2), training.Phase("frozen", 1, train="backbone")),
        training.Torch("RMSprop", {"lr": 1e-3}), training.Torch("NAdam", {"lr": 1e-2}), seed=3,
    ),
    losses.CrossEntropy() + losses.GateBCE(),
    ftwt.Pruning(gates.PooledLinear(), targets.HeatmapMass(beside.MASS)),
    batch_size=8,
)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return f"imagefolder:{make_folder(tmp_path_factory.mktemp('images'), images=40)}"


@pytest.fixture
def forgotten(monkeypatch):
    """As in a new process: nothing of the user's own is imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def forget():
        monkeypatch.setattr(registry, "_COMPONENTS", registry.registered())
        for name in ("my_recipe", "beside", "my_nets"):
            sys.modules.pop(name, None)
        for name in list(registry._COMPONENTS):
            if name.startswith(("my_recipe:", "my_nets:")):
                del registry._COMPONENTS[name]

    forget()
    yield forget
    forget()


def written(folder, network="tiny"):
    (folder / "beside.py").write_text("MASS = 0.7\n")
    (folder / "my_recipe.py").write_text(FILE.replace("NETWORK", network))
    return folder / "my_recipe.py"


@pytest.mark.parametrize("network", ["tiny", "tiny(2)"])
def test_a_recipe_file_trains_and_its_run_loads_by_importing_it(
    ftwt_command, images, tmp_path, forgotten, network
):  # fmt: skip
    file, out = written(tmp_path, network), tmp_path / "run"
    answer = ftwt_command("train", file, "--data", images, "--out", out, "--json")
    record = answer.json()
    assert (record["status"], record["seed"], record["recipe"]) == ("finished", 3, str(file))
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["all", "all", "frozen"]
    assert record["specification"]["pruning"]["target"]["mass"] == 0.7
    assert "few for schedules" in record["warnings"][0]
    forgotten()
    answer = ftwt_command("eval", out, "--data", images)
    assert answer.status == 2
    assert "is not registered in this process" in answer.err
    assert "--network my_recipe:" in answer.err
    for named in (file, "my_recipe:tiny"):
        if network == "tiny" or named == file:
            forgotten()
            value = ftwt_command("eval", out, "--data", images, "--network", named, "--json").json()
            assert value["images"] == 80
    forgotten()
    given = ("export", out, "--network", file, "--format", "native", "--json")
    assert ftwt_command(*given).json()["format"] == "native"


def test_networks_of_ones_own_wherever_one_is_named(
    ftwt_command, images, tmp_path, forgotten, monkeypatch
):  # fmt: skip
    written(tmp_path).rename(tmp_path / "my_nets.py")
    monkeypatch.chdir(tmp_path)
    name = "my_nets:tiny"
    value = ftwt_command("macs", name, "--size", 32, "--json").json()
    assert value["network"] == name
    assert value["dense_macs"] > 0
    assert "--size" in ftwt_command("sites", name).err
    for number, named in enumerate(((name,), ("shapes-resnet8", "--network", name))):
        record = ftwt_command(
            "train", *named, "--data", images, "--dense", "--epochs", 1,
            "--out", tmp_path / f"run{number}", "--json",
        ).json()  # fmt: skip
        assert record["specification"]["network"] == name
    bad = ftwt_command("macs", "my_nets:none", "--size", 32)
    assert "my_nets has no 'none'" in bad.err
    assert "there is no module 'my_net'" in ftwt_command("sites", "my_net:tiny").err


BAD = {
    "def recipe(:": r"is no Python: line 1: ",
    "x = 1": r"should define `recipe`, a training.Recipe, and it has none; `ftwt recipes",
    "recipe = 3": r"and its `recipe` is a int",
    "import torch\nrecipe = torch.nothing": r"fails in line 2: AttributeError: ",
    "from ftwt import training\ntraining.Sgd(-1)": r"fails in line 2: Sgd: lr=-1",
    "raise SystemExit(0)": r"fails in line 1: SystemExit",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_with_a_file_is_one_line(text, tmp_path, forgotten):
    file = tmp_path / "my_recipe.py"
    file.write_text(text)
    with pytest.raises(ftwt.FtwtError, match=BAD[text]) as told:
        recipe(str(file), Overrides())
    assert "\n" not in str(told.value)
    assert "my_recipe" not in sys.modules or "recipe" in text or text == "x = 1"
    clash = tmp_path / "json.py"
    clash.write_text(text)
    for path, match in ((clash, "has the name of another module"), (tmp_path / "n.py", "does not")):
        refused(match, recipe, str(path), Overrides())


@pytest.mark.parametrize(
    ("name", "given", "match"),
    [
        ("network", 3, "network=3; give a name"),
        ("settings", None, r"settings=None; give training.Settings\("),
        ("objective", "mse", "objective='mse'; give losses"),
        ("pruning", gates.PooledLinear(), r"pruning=PooledLinear\(.* give ftwt.Pruning"),
        ("batch_size", 0, "batch_size=0; give 1 image or more"),
        ("task", "segmentation", "task='segmentation'; give a task"),
        ("inside", None, "inside=None; give the name of a module"),
    ],
)
def test_parts_of_a_recipe_that_are_none_are_named(name, given, match):
    made = recipe("cifar10-resnet8-short", Overrides())
    with pytest.raises(ftwt.FtwtError, match=f"^Recipe: {match}"):
        replace(made, **{name: given})


def test_a_lone_loss_is_an_objective_and_what_a_factory_raises_is_one_line():
    def fails(num_classes):
        raise ValueError("two\nlines")

    made = replace(recipe("cifar10-resnet8-short", Overrides()), objective=losses.CrossEntropy())
    assert made.objective == losses.Objective.of(losses.CrossEntropy())
    with pytest.raises(ftwt.FtwtError, match="fails fails: ValueError: two lines; mend it"):
        registry.made_by(fails, 10)


def test_what_may_be_chosen_of_a_file(tmp_path, forgotten):
    file = str(written(tmp_path))
    whole = recipe(file, Overrides())
    chosen = recipe(file, Overrides(mass=0.5, epochs=6, seed=9))
    assert chosen.pruning.target.mass == 0.5
    assert [phase.epochs for phase in chosen.settings.phases] == [4, 2]
    assert (whole.settings.seed, chosen.settings.seed) == (3, 9)
    plain = recipe(file, Overrides(), dense=True)
    assert plain.pruning is None
    assert plain.objective.names == ("CrossEntropy",)
    assert [phase.epochs for phase in plain.settings.phases] == [3]
    for bad, match in (
        (Overrides(coupling="joint"), "are what .* says"),
        (Overrides(epochs=1), "fewer than the 2 phases"),
    ):
        refused(match, recipe, file, bad)
    refused("no target with a mass", recipe, file, Overrides(mass=0.5), dense=True)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(4, 60))
def test_shorter_and_longer_phases_keep_their_number_and_sum(lengths, epochs):
    phases = tuple(Phase(str(i), length) for i, length in enumerate(lengths))
    found = _shortened(phases, epochs, "it")
    assert sum(phase.epochs for phase in found) == epochs
    assert [phase.name for phase in found] == [phase.name for phase in phases]
    assert _shortened(phases, sum(lengths), "it") == phases


def test_the_two_front_doors_train_the_same(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    ready = (
        ftwt.Pipeline(network, example=torch.zeros(1, 3, 32, 32), where=["2"])
        .gate(gates.PooledLinear())
        .target(targets.HeatmapMass(0.8))
        .loss(losses.CrossEntropy() + losses.GateBCE() + losses.Distillation())
        .schedule(Phase("all", 1))
    )
    made = ready.recipe()
    assert isinstance(made, Recipe)
    assert made.sites == ("2",)
    shapes = data.load("shapes", limit=64)
    model, record = runs.train_run(made, shapes, tmp_path / "run")
    assert model.sites == ("2",)
    assert record["status"] == "finished"
    kept = ftwt.io.storage.read_tensors(tmp_path / "run" / "dense.safetensors")[0]
    assert torch.equal(kept["0.weight"], network[0].weight)
    refused("holds a network of your own", ftwt.load, tmp_path / "run")
    again, _ = ftwt.load(tmp_path / "run", network)
    assert torch.equal(again(torch.ones(1, 3, 32, 32)), model(torch.ones(1, 3, 32, 32)))
    named = ready.recipe(backbones.resnet8)
    assert specs.from_json(specs.recorded(named)) == named


def test_a_general_recipe_for_networks_of_others():
    made = recipe("torchvision:mobilenet_v3_small", Overrides(mass=0.8))
    assert made.network == "torchvision:mobilenet_v3_small"
    assert made.pruning.target.mass == 0.8
    assert [phase.train for phase in made.settings.phases] == ["gates", "all", "backbone"]
    model = ftwt.attach(
        backbones.mobilenet_v1(0.25), made.pruning, example=torch.zeros(1, 3, 32, 32)
    )
    with torch.no_grad():
        assert model.eval().trace(torch.randn(2, 3, 32, 32)).sites[model.sites[3]].mask.all()
    text = source("torchvision:mobilenet_v3_small")
    assert "imagefolder:" in text
    assert 'Path("runs/my-torchvision-mobilenet_v3_small")' in text
    refused("is a script already", source, "my_recipe.py")
    for name in ("torchvision:mobilenet_v9", "timm:nothing_at_all"):
        refused("is none of the", recipe, name, Overrides())


def test_any_optimizer_of_torch_by_its_name_or_class():
    for name, options in (("Adagrad", {"lr": 0.1}), ("RAdam", {}), ("Lion", None)):
        if options is None:
            refused(f"Torch: torch.optim has no '{name}'", training.Torch, name)
            continue
        spec = training.Torch(getattr(torch.optim, name), options)
        assert spec == training.Torch(name, options)
        assert specs.from_json(specs.recorded(spec)) == spec
        weight = nn.Parameter(torch.ones(2))
        made = spec.build([weight])
        weight.sum().backward()
        made.step()
        assert (weight < 1).all()
    for bad, match in (
        (lambda: training.Torch("SGD", {"speed": 1}), "Torch: SGD: .*speed"),
        (lambda: training.Torch("Adam", {"lr": -1.0}), "Torch: Adam: Invalid learning rate"),
        (lambda: training.Torch("LBFGS"), "asks for the loss again"),
    ):
        refused(match, bad)


@pytest.mark.parametrize("momentum", [0.01, 0.3, None])
def test_batch_norms_follow_at_least_as_quickly_as_settings_say(momentum):
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3, momentum=momentum), nn.Flatten(), nn.Linear(12, 2))
    batch = (torch.randn(8, 3, 2, 2) + 5, torch.arange(8) % 2)
    settings = training.Settings(
        (training.Phase("dense", 1),), training.Sgd(0.1), norm_momentum=0.1
    )
    state = training.start(net, settings, 1)
    training.fit(state, losses.Objective.of(losses.CrossEntropy()), settings, [batch], [batch])
    # Without one it is the mean of all batches.
    share = 1.0 if momentum is None else max(momentum, 0.1)
    torch.testing.assert_close(net[0].running_mean, share * batch[0].mean((0, 2, 3)))
    assert net[0].momentum == momentum
    for bad in (0, 1.5):
        with pytest.raises(ftwt.FtwtError, match=r"norm_momentum=.* is outside \(0, 1\]"):
            replace(settings, norm_momentum=bad)


def test_warnings_of_a_trainings_own_numbers():
    assert list(hints.before(10)) == []
    assert "has 9 steps" in next(hints.before(9))
    made = recipe("torchvision:resnet18", Overrides())

    def found(accuracy, reduction, made=made):
        # With every filter on, what gates cost is what is not saved.
        last = {"reduction_exact": reduction - 0.02, "reduction_paper": reduction + 0.1}
        return list(hints.after(made, {"best_validation_accuracy": accuracy,
                                        "last_validation": last}, 10, 0.02))  # fmt: skip

    assert found(0.5, 0.2) == []
    assert "stayed at chance (0.110 for 10 classes)" in found(0.11, 0.2)[0]
    assert "no gate ever closed" in found(0.5, 0.0)[0]
    assert found(0.5, 0.0, recipe("torchvision:resnet18", Overrides(), dense=True)) == []


def test_torchvisions_weights_get_a_new_classifier_for_other_classes(monkeypatch, tmp_path):
    from ftwt.training import preparation

    trained = backbones.resnet8(1000).state_dict()
    monkeypatch.setattr(preparation, "starting_weights", lambda init, network: trained)
    shapes = data.load("shapes", limit=64, only="train")
    plain = recipe("cifar10-resnet8-short", Overrides(), dense=True)
    model = preparation.prepare(plain, shapes, init="torchvision").model
    state = model.state_dict()
    assert state["fc.weight"].shape == (10, trained["fc.weight"].shape[1])
    assert all(torch.equal(state[name], trained[name]) for name in state if "fc." not in name)
    gated = recipe("cifar10-resnet8-short", Overrides())
    for made, init in ((plain, "weights.pt"), (gated, "torchvision")):
        refused("knows 1000 classes", preparation.prepare, made, shapes, init=init)
