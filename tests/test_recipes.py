"""Recipes: the paper's hyper-parameters, short functions, scripts that run."""

import ast
import inspect
import json

import pytest
import torch

import ftwt
from ftwt import budget, losses, networks
from ftwt.io import specs
from ftwt.training import (
    CATALOGUE,
    Cosine,
    Overrides,
    Sgd,
    Steps,
    freeze_gates_halfway,
    recipe,
    runs,
)
from ftwt.training import recipes as package
from tests.command_line import make_folder

FUNCTIONS = sorted(
    {make for entry in CATALOGUE.values() for make in (entry.dense, entry.dynamic)},
    key=lambda make: make.__name__,
)
every_function = pytest.mark.parametrize("make", FUNCTIONS, ids=lambda make: make.__name__)
KINDS = sorted({(entry.dense, entry.dynamic): name for name, entry in CATALOGUE.items()}.values())


def test_every_network_of_the_paper_has_its_recipes():
    cifar = ["vgg16_bn", *(f"resnet{depth}" for depth in (20, 32, 44, 56, 110))]
    cifar += [f"mobilenet_v1{width}" for width in ("", "-x0.75", "-x0.5", "-x0.25")]
    cifar += [f"mobilenet_v2{width}" for width in ("", "-x0.5", "-x0.25")]
    wanted = {f"{data}-{model}" for data in ("cifar10", "cifar100") for model in cifar}
    wanted |= {f"imagenet-resnet{depth}" for depth in (18, 34, 50)}
    wanted |= {"imagenet-mobilenet_v1", "imagenet-mobilenet_v2"}
    assert wanted | {f"{name}-finetune" for name in wanted} <= set(CATALOGUE)
    assert all(CATALOGUE[name].network == name for name in wanted)
    assert {entry.network for entry in CATALOGUE.values()} <= set(networks.names())


@every_function
def test_a_recipe_is_a_short_function(make):
    assert len(inspect.getsource(make).splitlines()) < 40


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_recipe_is_a_value_that_survives_json(name):
    for dense in (True, False):
        made = recipe(name, Overrides(coupling="joint", distill=True), dense=dense)
        assert specs.from_json(json.loads(json.dumps(specs.to_json(made)))) == made
        assert (made.pruning is None and made.escalation is None) == dense


def test_the_papers_cifar_hyperparameters():
    steps = Steps((81 / 200, 122 / 200, 151 / 200))
    dense = recipe("cifar10-resnet56", Overrides(), dense=True)
    assert dense.settings.backbone == Sgd(0.1, 0.9, 5e-4, schedule=steps)
    assert (dense.settings.phases[0].epochs, dense.batch_size) == (200, 128)
    dynamic = recipe("cifar10-resnet56", Overrides())
    assert [(one.epochs, one.train) for one in dynamic.settings.phases] == [
        (100, "all"),
        (100, "backbone"),
    ]
    assert dynamic.settings.backbone == Sgd(0.01, 0.9, 5e-4, schedule=steps)
    gates = dynamic.settings.gates
    assert (gates.lr, gates.weight_decay) == (0.1, 0)
    tuned = recipe("cifar100-resnet20-finetune", Overrides())
    assert sum(one.epochs for one in tuned.settings.phases) == 50
    assert tuned.settings.backbone.lr == 1e-3
    assert recipe("cifar10-mobilenet_v2", Overrides(), dense=True).settings.backbone.schedule == (
        Cosine()
    )


def test_masses_are_the_published_ones_unless_chosen():
    def mass(name, **choices):
        return recipe(name, Overrides(**choices)).pruning.target.mass

    assert mass("cifar10-resnet56") == 0.80
    assert mass("cifar10-resnet56", coupling="joint") == 0.88
    assert mass("cifar10-vgg16_bn") == 0.92
    assert mass("cifar10-mobilenet_v1") == mass("imagenet-mobilenet_v1") == 1.0
    assert mass("imagenet-resnet18") == 0.91
    assert mass("cifar10-resnet56", mass=0.5) == 0.5
    with pytest.raises(ftwt.FtwtError, match=r"mass=0.0 is outside"):
        mass("cifar10-resnet20", mass=0.0)


def test_choices_reach_the_recipe():
    made = recipe("cifar10-resnet20", Overrides(distill=True, target_source="teacher", epochs=3))
    names = [type(loss).__name__ for _, loss in made.objective.terms]
    assert names == ["CrossEntropy", "GateBCE", "Distillation"]
    assert made.pruning.target_source == "teacher"
    assert [one.epochs for one in made.settings.phases] == [1, 2]


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(ftwt.FtwtError) as caught:
        recipe("cifar10-resnet65", Overrides())
    assert "did you mean cifar10-resnet56 or " in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dense", [True, False])
def test_a_pasted_source_makes_the_same_recipe(name, dense, monkeypatch, tmp_path):
    """The script stands alone: it runs, and trains what the recipe would."""
    calls = []
    for module, train in ((runs, "train_run"), (budget, "train_escalated_run")):
        monkeypatch.setattr(module, train, lambda *given, **named: calls.append((given, named)))
    monkeypatch.setattr(ftwt.data, "load", lambda name: name)
    text = package.source(name, dense=dense)
    file = tmp_path / "mine.py"
    file.write_text(text)
    exec(compile(text, str(file), "exec"), {"__name__": "__main__"})
    [(given, named)] = calls
    made = recipe(name, Overrides(), dense=dense)
    assert given[0] == made
    assert str(given[2]).startswith(f"runs/my-{name}")
    assert named["name"] == f"my-{name}"
    assert ("reduction" in named) == (made.escalation is not None)
    assert made.pruning is None or "gates.PooledLinear(" in text
    # No import that it does not use.
    imported = {
        one.name for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)
        for one in node.names
    }  # fmt: skip
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert imported <= used


def test_the_command_lists_shows_and_prints(ftwt_command):
    listed = ftwt_command("recipes")
    assert "imagenet-NETWORK" in listed.out
    assert "cifar100-NETWORK-finetune " in listed.out, "names are to be typed"
    assert "\N{HORIZONTAL ELLIPSIS}" not in listed.out
    assert "cifar10-resnet56: 0.8 decoupled, 0.88 joint" in listed.out
    rows = ftwt_command("recipes", "--json").json()["recipes"]
    assert {row["name"] for row in rows} == set(CATALOGUE)
    shown = ftwt_command("recipes", "imagenet-resnet34")
    assert "45 epochs gates (trains all), then 45 epochs frozen gates" in shown.out
    value = ftwt_command("recipes", "imagenet-resnet34", "--dense", "--json").json()
    assert value["recipe"]["pruning"] is None
    printed = ftwt_command("recipes", "cifar10-resnet56", "--source")
    assert printed.out == package.source("cifar10-resnet56")
    again = ftwt_command("recipes", "cifar10-resnet56", "--source", "--json").json()
    assert again["source"] == printed.out
    unknown = ftwt_command("recipes", "resnet56")
    assert unknown.status == 2
    assert "did you mean" in unknown.err
    assert unknown.out == ""
    assert ftwt_command("recipes", "--source").status == 2


def test_distillation_and_a_teacher_through_the_pipeline():
    torch.manual_seed(0)
    network = ftwt.backbones.resnet8()
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    result = (
        ftwt.Pipeline(network, example=images[:1])
        .gate(ftwt.gates.PooledLinear(), estimator=ftwt.gates.Gumbel())
        .target(ftwt.targets.HeatmapMass(0.8), source="teacher")
        .loss(losses.CrossEntropy() + losses.GateBCE() + losses.Distillation())
        .schedule(*freeze_gates_halfway(2))
        .fit([(images, labels)], [(images, labels)])
    )
    first, second = (set(row.losses) for row in result.history)
    assert first == {"loss", "CrossEntropy", "GateBCE", "Distillation"}
    assert second == first - {"GateBCE"}
    assert not any("teacher" in name for name in result.model.state_dict())


def test_distillation_and_a_teacher_through_the_command_line(ftwt_command, tmp_path):
    folder = make_folder(tmp_path / "images", images=40)
    common = ("--data", f"imagefolder:{folder}", "--threads", 1, "--epochs", 1)
    dense, gated = tmp_path / "dense", tmp_path / "gated"
    name = "cifar10-resnet8-short"
    assert ftwt_command("train", name, *common, "--dense", "--out", dense).status == 0
    options = ("--distill", "--target-source", "teacher")
    answer = ftwt_command(
        "train", name, *common, "--init", dense, *options, "--out", gated, "--json"
    )
    assert answer.json()["status"] == "finished"
    row = json.loads((gated / "metrics.jsonl").read_text().splitlines()[0])
    assert set(row["losses"]) == {"loss", "CrossEntropy", "GateBCE", "Distillation"}
    model, _ = ftwt.load(gated)
    assert model.pruning.target_source == "teacher"
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    refused = ftwt_command("train", name, *common, *options, "--out", tmp_path / "none")
    assert refused.status == 2
    assert "distillation learns from the dense network" in refused.err
    assert ftwt_command("train", name, *common, "--dense", "--distill",
                        "--out", tmp_path / "no").status == 2  # fmt: skip
