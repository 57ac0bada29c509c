"""A user's gate, target, loss and optimizer through everything that ftwt's own go through."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

import ftwt
from ftwt import data, errors, gates, losses, targets, training
from ftwt.io import registry, specs
from ftwt.training import runs
from tests import my_parts
from tests.small import refused

OWN = losses.CrossEntropy() + losses.GateBCE()
SGD = training.Sgd(0.05)
# What differs from ftwt's own parts: pruning, objective, the backbone's optimizer.
CASES = {
    "gate": (ftwt.Pruning(my_parts.ByImage()), OWN, SGD),
    "target": (ftwt.Pruning(target=my_parts.Taylor()), OWN, SGD),
    "dense gradient": (
        ftwt.Pruning(my_parts.ByImage(), my_parts.Taylor(0.7), target_source="dense"), OWN, SGD,
    ),
    "loss": (ftwt.Pruning(), OWN + 0.1 * losses.of(my_parts.small_logits), SGD),
    "optimizer": (ftwt.Pruning(), OWN, my_parts.Adam()),
    "AdamW": (ftwt.Pruning(), OWN, training.AdamW(1e-3)),
}  # fmt: skip
every_case = pytest.mark.parametrize(
    ("pruning", "objective", "backbone"), CASES.values(), ids=CASES
)
PHASES = training.Phase("all", 1), training.Phase("gates", 1, train="gates")


@pytest.fixture(scope="module")
def shapes():
    return data.load("shapes", limit=64)


def images(number: int = 4) -> torch.Tensor:
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(images(8), torch.arange(8) % 3)] * 2


LOAD = """
import json, sys
import torch
import ftwt
from tests import my_parts
model, card = ftwt.load(sys.argv[1], None if len(sys.argv) < 3 else my_parts.network(3))
images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
fast = ftwt.runtime.skip(model)
difference = (fast(images) - model(images)).abs().max().item()
print(json.dumps([model(images).tolist(), difference, repr(model.pruning)]))
"""


def loaded(path: Path, *network: str):
    """What a new process says of a saved model, and that it skips there."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), *network],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    outputs, difference, pruning = json.loads(done.stdout)
    assert difference < 1e-5
    return torch.tensor(outputs), pruning


@every_case
def test_by_the_pipeline(pruning, objective, backbone, tmp_path):
    torch.manual_seed(0)
    network = my_parts.network(3)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    result = (
        ftwt.Pipeline(network, example=images(1))
        .gate(pruning.gate, estimator=pruning.estimator)
        .target(pruning.target, source=pruning.target_source)
        .loss(objective)
        .schedule(*PHASES, backbone=backbone, gates=training.AdamW(1e-2))
        .fit(batches(), batches())
    )
    assert len(result.history) == 2
    assert result.history[0].mask_accuracy is not None
    assert set(result.history[0].losses) == {*objective.names, "loss"}
    moved = result.model.state_dict()
    assert not torch.equal(moved["0.weight"], before["0.weight"])
    ftwt.save(result.model, tmp_path / "model.safetensors", ftwt.Card(my_parts.network, 3))
    outputs, said = loaded(tmp_path / "model.safetensors")
    assert said == repr(result.model.pruning)
    assert torch.allclose(outputs, result.model(images()), atol=1e-5)


@every_case
def test_by_a_recipe(pruning, objective, backbone, shapes, tmp_path):
    settings = training.Settings(PHASES, backbone, training.AdamW(1e-2))
    recipe = training.Recipe(my_parts.network, settings, objective, pruning, batch_size=16)
    assert recipe.network == f"{my_parts.__name__}:network"
    assert specs.from_json(specs.recorded(recipe)) == recipe
    model, record = runs.train_run(recipe, shapes, tmp_path / "run")
    assert specs.from_json(record["specification"]) == recipe
    again, card = ftwt.load(tmp_path / "run")
    assert card.network == recipe.network
    assert torch.equal(again(images()), model(images()))
    fast = ftwt.runtime.skip(again)
    assert torch.allclose(fast(images()), again(images()), atol=1e-5)
    audit = fast.audit(images())
    assert set(audit.differing) <= set(audit.dense)


def test_a_run_loads_in_a_new_process(shapes, tmp_path):
    pruning, objective, backbone = CASES["dense gradient"]
    settings = training.Settings(PHASES, backbone, SGD)
    recipe = training.Recipe(f"{my_parts.__name__}:network", settings, objective, pruning)
    model, _ = runs.train_run(replace(recipe, batch_size=16), shapes, tmp_path / "run")
    outputs, said = loaded(tmp_path / "run")
    assert said == repr(pruning)
    assert torch.allclose(outputs, model(images()), atol=1e-5)


def gated(**options) -> ftwt.Gated:
    torch.manual_seed(0)
    pruning = ftwt.Pruning(my_parts.ByImage(), **options)
    return ftwt.attach(my_parts.network(3), pruning, example=images(1)).eval()


def test_what_sites_share_is_held_once_and_counted():
    model = gated()
    held = [name for name in model.state_dict() if "embed" in name]
    assert len(held) == 2
    assert all("gate" in name for name in held)
    own = [model.anatomy.plan.gate_cost(layer) for layer in model.anatomy.plan.layers]
    sites = [site.site for site in model.gates.values()]
    alone = sum((site.in_channels + 6) * site.out_channels for site in sites)
    assert model.gate_macs == sum(own) == alone + 3 * 6
    trace = model.trace(images())
    assert (trace.macs - trace.plan.total(trace.masks) == 0).all()
    larger = torch.randn(2, 3, 48, 48)
    assert model.trace(larger).plan.gate_macs == model.gate_macs
    everything = {id(one) for one in model.gate_parameters()}
    assert {id(model.get_parameter(name)) for name in held} <= everything


def test_a_context_reaches_gates_in_every_kind_of_pass():
    model = gated()
    fast = ftwt.runtime.skip(model)
    with torch.no_grad():
        model.get_parameter("gates.0.shared.module.tasks.weight").mul_(5)
    plain = model.trace(images()).sites["3"].logits
    with model.context(task=1):
        trace = model.trace(images())
        other = trace.sites["3"].logits
        assert not torch.allclose(plain, other)
        assert torch.equal(model(images()), trace.output)
        assert torch.allclose(fast(images()), trace.output, atol=1e-5)
        same = model.with_thresholds(model.thresholds)
        assert torch.equal(same(images()), trace.output)
        exported = torch.export.export(model, (images(),)).module()
        assert torch.allclose(exported(images()), trace.output, atol=1e-5)
    assert torch.equal(model.trace(images()).sites["3"].logits, plain)
    each = torch.tensor([0, 1, 0, 1])
    with model.context(task=each):
        mixed = model.trace(images()).sites["3"].logits
    assert torch.allclose(mixed[0], plain[0], atol=1e-6)
    assert torch.allclose(mixed[1], other[1], atol=1e-6)


def test_contexts_that_nobody_asked_for_are_refused():
    with (
        pytest.raises(ftwt.FtwtError, match="does not take 1 inputs and tusk="),
        gated().context(tusk=1),
    ):
        pass
    plain = ftwt.attach(my_parts.network(3), ftwt.Pruning(), example=images(1))
    refused("read their site's input alone", plain.context(task=1).__enter__)
    refused("cannot be chosen by cost", gates.ByCost, my_parts.ByImage(), gates.PooledLinear())
    model = gated()
    kept = {name: torch.ones(site.site.out_channels, dtype=torch.bool)
            for name, site in zip(model.sites, model.gates.values(), strict=True)}  # fmt: skip
    refused("gates of ByImage share a module", ftwt.slicing.narrow, model, kept)


@dataclass(frozen=True)
class Spy:
    """Notes what it is given; keeps every filter."""

    seen: list = None  # type: ignore[assignment]

    def keep_by_gradient(self, features, gradient):
        self.seen.append((features, gradient))
        return torch.ones(features.shape[:2], dtype=torch.bool)

    __hash__ = object.__hash__


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@pytest.mark.parametrize("source", ["dense", "masked"])
def test_a_gradient_is_that_of_the_loss(source, frozen):
    spy = Spy([])
    torch.manual_seed(0)
    pruning = ftwt.Pruning(gates.Random(0.5), spy, target_source=source)
    model = ftwt.attach(my_parts.network(3), pruning, example=images(1))
    for parameter in model.backbone_parameters():
        parameter.requires_grad_(not frozen)
    state = {name: one.clone() for name, one in model.state_dict().items()}
    labels = torch.arange(4) % 3

    def task(trace):
        return losses.CrossEntropy()(trace, labels)

    trace = model.trace(images(), loss=task)
    means = [one for name, one in model.state_dict().items() if "num_batches" in name]
    assert means == [1], "the pass of targets leaves no trace in batch norms"
    # By hand: the last site is followed by a mean and a linear layer.
    features, gradient = spy.seen[-1]
    mask = trace.sites["3"].mask if source == "masked" else torch.ones(4, 12)
    after = (features * mask[..., None, None]).requires_grad_()
    output = model.get_submodule("7")(after.mean((2, 3)))
    (wanted,) = torch.autograd.grad(nn.functional.cross_entropy(output, labels), after)
    assert torch.allclose(gradient, wanted, atol=1e-7)
    assert all(one.grad is None for one in model.parameters())
    assert all(torch.equal(state[name], one) for name, one in model.named_parameters())


def test_where_gradients_are_not_known_targets_are_refused():
    model = ftwt.attach(
        my_parts.network(3), ftwt.Pruning(target=my_parts.Taylor()), example=images(1)
    )
    refused("need the gradient of the task's loss; give it, as", model.trace, images())
    assert model.trace(images(), targets=False).sites["3"].target is None
    with pytest.raises(ftwt.FtwtError, match="Oracle answers with the target, but Taylor needs"):
        ftwt.Pruning(gates.Oracle(), my_parts.Taylor())
    with pytest.raises(ftwt.FtwtError, match="Taylor needs the gradient of the task's loss"):
        ftwt.solve(model.eval(), batches() * 2, reduction=0.1)
    settings = training.Settings(PHASES, SGD, SGD, compile=True)
    refused(r"which torch\.compile cannot hold", training.start, model, settings, 1)


@pytest.mark.parametrize(
    ("optimizer", "match"),
    [
        (gates.PooledLinear(), r"backbone=PooledLinear\(.*is no optimizer; give training.Sgd"),
        (training.Cosine(), r"backbone=Cosine\(\) is no optimizer"),
        (training.AdamW, "is no optimizer"),
        (torch.optim.AdamW, "is no optimizer"),
        (0.1, "backbone=0.1 is no optimizer"),
        (training.Sgd(0.1, schedule=training.Sgd(0.1)), r"schedule=Sgd\(.*is no schedule"),
    ],
)
def test_what_is_no_optimizer(optimizer, match):
    refused(match, training.Settings, PHASES, optimizer)


def test_bad_rates():
    for bad in ({"lr": 0}, {"lr": 1e-3, "weight_decay": -1}, {"lr": 1e-3, "betas": (0.9, 1)}):
        refused(r"^AdamW: .*; give ", training.AdamW, **bad)


def test_ones_own_optimizer_without_a_schedule_keeps_its_rate():
    model = my_parts.network(3)
    settings = training.Settings((training.Phase("a", 3),), my_parts.Adam(0.5))
    state = training.start(model, settings, 2)
    for _ in range(5):
        state.optimizers["backbone"].step()
        state.schedulers["backbone"].step()
    assert state.optimizers["backbone"].param_groups[0]["lr"] == 0.5
    assert registry.name_of(my_parts.Adam) in registry.registered()
    assert isinstance(my_parts.Taylor(), targets.GradientTarget)


@dataclass(frozen=True)
class Keeps:
    """A target that answers what a function makes of the features."""

    answer: Callable[[torch.Tensor], object]

    def keep(self, features):
        return self.answer(features)


@dataclass(frozen=True)
class Answers:
    """A gate that answers what a function makes of its input, for a number of filters."""

    answer: Callable[[torch.Tensor, int], object]

    def build(self, site):
        module = nn.Identity()
        module.forward = lambda inputs: self.answer(inputs, site.out_channels)
        return module

    def macs(self, live, site):
        return 0 * live


@pytest.mark.parametrize("source", ["masked", "dense"])
@pytest.mark.parametrize(
    ("answer", "came"),
    [
        (lambda features: features.mean((2, 3)), r"float32 of shape \(4, 8\)"),
        (lambda features: features > 0, r"bool of shape \(4, 8, 16, 16\)"),
        (lambda features: features.mean((2, 3))[:, :3] > 0, r"bool of shape \(4, 3\)"),
        (lambda features: None, "NoneType"),
    ],
)
def test_a_target_that_answers_no_mask_is_refused(answer, came, source):
    pruning = ftwt.Pruning(target=Keeps(answer), target_source=source)
    model = ftwt.attach(my_parts.network(3), pruning, example=images(1))
    refused(rf"the target Keeps answers {came}, expected one boolean", model.trace, images())


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        (lambda inputs, filters: inputs.mean((2, 3)), r"float32 of shape \(4, 3\)"),
        (lambda inputs, filters: inputs.new_ones(4, filters) > 0, "bool of shape"),
        (lambda inputs, filters: inputs.new_ones(4, filters, 1, 1), r"\(4, \d+, 1, 1\)"),
        (lambda inputs, filters: (inputs,), "tuple"),
    ],
)
def test_a_gate_that_answers_no_logits_is_refused(answer, came):
    model = ftwt.attach(my_parts.network(3), ftwt.Pruning(Answers(answer)), example=images(1))
    for call in (model, model.trace):
        refused(rf"the gate of \S+, Answers, answers .*{came}.*, expected logits", call, images())


def test_what_is_given_to_losses_and_loaders_by_mistake_is_refused():
    model = ftwt.attach(my_parts.network(3), ftwt.Pruning(), example=images(1))
    labels = torch.arange(4) % 3
    # As they are where nothing checks types.
    bare = inspect.unwrap(type(OWN).__call__), inspect.unwrap(data.Batches.__init__)
    refused("called with a Tensor where a trace comes first", bare[0], OWN, model(images()), labels)
    too_large = "CrossEntropy: a label is 3, but the network knows the classes 0 to 2"
    refused(too_large, OWN, model.trace(images()), labels + 1)
    within = inspect.unwrap(errors.check_within)
    refused("T: mass='0.9' is outside", within, "T", "mass", "0.9", "(0, 1]", "give 0.9")
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    refused(r"Batches: images is a Tensor; give data.Images\(", bare[1], None, images(), 4, **half)
