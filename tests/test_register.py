"""Components of a user's own in files: by qualified names, and never by importing from a file."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

import ftwt
from ftwt import gates, losses, targets, training
from ftwt.io import registry, specs
from tests.small import refused

PARTS = '''
from dataclasses import dataclass

import torch
from torch import nn

import ftwt
from ftwt import gates, losses


@ftwt.register
@dataclass(frozen=True)
class TopK:
    """Not ftwt's: it keeps the first filters."""

    share: float = 0.5

    def keep(self, features):
        return torch.arange(features.shape[1]).expand(features.shape[:2]) < self.share * 8


@ftwt.register
@dataclass(frozen=True)
class Scaled:
    slope: float

    def build(self, site):
        return _Scaled(self.slope, site)

    def macs(self, live, site):
        return live * site.out_channels


class _Scaled(nn.Module):
    def __init__(self, slope, site):
        super().__init__()
        self.slope, self.linear = slope, nn.Linear(site.in_channels, site.out_channels)

    def forward(self, inputs):
        return self.slope * self.linear(inputs.mean((2, 3)))


@ftwt.register
def network(num_classes=3):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, num_classes),
    )


@ftwt.register
def size(trace, labels):
    return trace.output.square().mean()


PRUNING = ftwt.Pruning(Scaled(2.0), TopK(0.25))


def save(path):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    model = ftwt.attach(network(3), PRUNING, example=images[:1], where=["0"]).eval()
    ftwt.save(model, path, ftwt.Card(network, 3))
    return model(images)


if __name__ == "__main__":
    import sys
    print(save(sys.argv[1]).sum().item())
'''
LOAD = """
import sys
import torch
{first}
import ftwt
try:
    model, card = ftwt.load(sys.argv[1])
except ftwt.FtwtError as error:
    print(error)
else:
    torch.manual_seed(0)
    print(model(torch.randn(2, 3, 8, 8)).sum().item(), model.pruning, card.network)
"""


def run(folder: Path, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *(["-c", code] if "\n" in code else [code]), *arguments],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_parts.py").write_text(PARTS)
    return tmp_path


def test_what_a_script_saved_loads_where_its_module_was_imported(folder):
    total = run(folder, "my_parts.py", "model.safetensors")
    with ftwt.io.storage.safetensors.safe_open(folder / "model.safetensors", "pt") as opened:
        about = json.loads(opened.metadata()["ftwt"])
    assert about["pruning"]["gate"] == {"type": "my_parts:Scaled", "slope": 2.0}
    assert about["pruning"]["target"]["type"] == "my_parts:TopK"
    said = run(folder, LOAD.format(first=""), "model.safetensors")
    assert said == (
        "load: 'my_parts:network' is not registered in this process; import my_parts, which "
        "registers it, first"
    )
    again, rest = run(folder, LOAD.format(first="import my_parts"), "model.safetensors").split(
        " ", 1
    )
    assert float(again) == pytest.approx(float(total), abs=1e-6)
    assert "gate=Scaled(slope=2.0), target=TopK(share=0.25)" in rest
    assert rest.endswith("my_parts:network")


@dataclass(frozen=True)
class TopK:
    """Named as one of ftwt's."""

    fraction: float = 0.5

    def keep(self, features):
        return torch.ones(features.shape[:2], dtype=torch.bool)


def loss(trace, labels):
    return trace.output.mean()


class Net(nn.Module):
    def __init__(self, num_classes: int = 2):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, num_classes)

    def forward(self, x):
        return self.last(self.conv(x).relu().mean((2, 3)))


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Registered for these tests alone: others build values from names without modules."""
    monkeypatch.setattr(registry, "_COMPONENTS", registry.registered())
    for component in (TopK, loss, Net, Holds):
        ftwt.register(component)


def there_and_back(value):
    return specs.from_json(json.loads(json.dumps(specs.to_json(value))))


def test_two_classes_of_one_name_stay_themselves():
    own, other = TopK(0.5), targets.TopK(0.5)
    assert type(there_and_back(own)) is TopK
    assert type(there_and_back(other)) is targets.TopK
    assert type(there_and_back(ftwt.Pruning(target=own)).target) is TopK
    assert type(there_and_back(ftwt.Pruning(target=other)).target) is targets.TopK
    mixed = there_and_back(targets.PerSite({"a": own, "b": other}))
    assert [type(mixed.for_site(name)) for name in "ab"] == [TopK, targets.TopK]
    namesake = type("TopK", (), {"__module__": TopK.__module__, "__annotations__": {}})
    namesake = dataclass(frozen=True)(namesake)
    refused("TopK is another class already", ftwt.register, namesake)
    refused("TopK is not registered, so load could not build it", specs.to_json, namesake())
    assert type(there_and_back(own)) is TopK


def test_functions_and_networks_by_name():
    assert there_and_back(losses.CrossEntropy() + 0.5 * losses.of(loss)).terms[1] == (0.5, loss)
    assert there_and_back(losses.of(loss, "size")).names == ("size",)
    for name in (Net, f"{__name__}:Net"):
        assert ftwt.networks.build(name, num_classes=5).last.out_features == 5
    assert isinstance(ftwt.networks.build(lambda: Net(3), num_classes=5), Net)
    refused("networks: 'nowhere:net' is not registered in this", ftwt.networks.build, "nowhere:net")
    with pytest.raises(ftwt.FtwtError, match=r"makes a list; let it return a torch\.nn\.Module"):
        ftwt.networks.build(lambda num_classes: [num_classes], num_classes=2)
    refused("cannot be called with", ftwt.networks.build, lambda width: Net(width))


def test_mappings_of_any_names_come_back():
    masks = gates.Fixed({name: [True, False] for name in ("type", "function", "mapping", "conv")})
    assert there_and_back(masks) == masks


@dataclass(frozen=True)
class Unregistered(TopK):
    pass


@dataclass(frozen=True)
class Holds:
    held: object = None
    doubled: float = field(default=0.0, init=False)

    def keep(self, features):
        return torch.ones(features.shape[:2], dtype=torch.bool)


def test_fields_that_are_no_arguments_are_left_out():
    assert there_and_back(Holds((1, "a", None))) == Holds((1, "a", None))


def local():
    @dataclass(frozen=True)
    class Local(TopK):
        pass

    return Local()


def inner(trace, labels):
    return trace.output.mean()


REFUSED = [
    (Unregistered(), "Unregistered is not registered, so load could not build it; put @ftwt"),
    (local(), "defined in a function, which no other process could find"),
    (Holds(lambda: 0), "is a lambda, which no other process could find"),
    (Holds(inner), "inner is not registered"),
    (Holds(torch.sigmoid), "sigmoid cannot be built from a file"),
    (Holds(torch.zeros(1)), "Tensor is not a specification"),
    (Holds({1: "a"}), "dict is not a specification"),
    (Holds(TopK().keep), "TopK.keep cannot be built from a file"),
]


@pytest.mark.parametrize(("target", "match"), REFUSED, ids=[*map(str, range(len(REFUSED)))])
def test_save_refuses_what_load_could_not_rebuild(target, match, tmp_path):
    model = ftwt.attach(Net(), ftwt.Pruning(target=target), example=torch.zeros(1, 3, 8, 8),
                        where=["conv"])  # fmt: skip
    with pytest.raises(ftwt.FtwtError, match=match) as told:
        ftwt.save(model, tmp_path / "model.safetensors", ftwt.Card(None, 2))
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_save_refuses_a_network_that_load_could_not_build(tmp_path):
    with pytest.raises(ftwt.FtwtError, match="save: 'nowhere:net' is not registered"):
        ftwt.save(Net(), tmp_path / "model.safetensors", ftwt.Card("nowhere:net", 2))
    refused("is a lambda, which no other", ftwt.Card, lambda: Net(), 2)


def test_register_refuses_what_no_name_leads_to():
    for component, match in (
        (dataclass(TopK.__base__ and type("Loose", (), {})), "Loose can change; make it a @data"),
        (type("Bare", (), {}), "Bare cannot be built from a file; give a frozen dataclass"),
        (lambda num_classes: Net(), "is a lambda"),
        (TopK(), r"register: TopK\(fraction=0.5\) cannot be built"),
        (type(local()), "is defined in a function"),
    ):
        refused(match, ftwt.register, component)


def test_a_file_cannot_make_anything_be_imported(monkeypatch):
    before = set(sys.modules)
    for name in ("this:s", "antigravity:geohash", "subprocess:Popen", "os:system"):
        for value in ({"type": name}, {"function": name}):
            refused("is not registered in this process; ", specs.from_json, value)
    assert set(sys.modules) == before


def test_a_recipe_with_parts_of_ones_own_comes_back():
    objective = losses.CrossEntropy() + loss
    settings = training.Settings((training.Phase("a", 1),), training.Sgd(0.1))
    recipe = training.Recipe("cifar10-resnet8", settings, objective, ftwt.Pruning(target=TopK()))
    assert there_and_back(recipe) == recipe
