"""Training: phases freeze for real, schedules, selection, the typed pipeline."""

import subprocess
import sys

import pytest
import torch

import ftwt
from ftwt import backbones, gates, losses, targets, training
from ftwt.training import precision
from ftwt.training.phases import enter, phase_at
from tests.small import refused

EXAMPLE = torch.zeros(1, 3, 32, 32)
OBJECTIVE = losses.CrossEntropy() + losses.GateBCE()


def batches(count: int = 3, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 3, 32, 32, generator=generator),
            torch.randint(10, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def gated() -> ftwt.Gated:
    torch.manual_seed(0)
    return ftwt.attach(backbones.resnet8(), ftwt.Pruning(), example=EXAMPLE)


def fit(model, *phases, **settings):
    given = {"backbone": training.Sgd(0.1), "gates": training.Sgd(0.1)} | settings
    chosen = training.Settings(phases, **given)
    rows = []
    state = training.start(model, chosen, 3)
    training.fit(state, OBJECTIVE, chosen, batches(), batches(1),
                 after_epoch=lambda row, _: rows.append(row))  # fmt: skip
    return state, rows


def snapshot(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("frozen", ["gates", "backbone"])
def test_frozen_means_frozen(frozen):
    """No gradient, no momentum, no weight decay, no running statistics."""
    other = {"gates": "backbone", "backbone": "gates"}[frozen]
    model = gated()
    decay = training.Sgd(0.1, weight_decay=0.1)
    chosen = training.Settings(
        (training.Phase("both", 1), training.Phase("one", 2, train=other)), decay, decay
    )
    state = training.start(model, chosen, 3)
    kept = {}

    def note(row, state):
        if row.epoch == 0:
            kept.update(snapshot(model))
        else:
            moved = {
                name
                for name, value in model.state_dict().items()
                if not torch.equal(value, kept[name])
            }
            is_gate = {name: name.startswith("gates.") for name in kept}
            assert moved
            assert all(is_gate[name] == (other == "gates") for name in moved)

    training.fit(state, OBJECTIVE, chosen, batches(), batches(1), after_epoch=note)


def test_phases_set_what_is_trainable_and_trainable_again_at_the_end():
    model = gated()
    enter(training.Phase("g", 1, train="gates"), model)
    assert all(one.requires_grad for one in model.gate_parameters())
    assert not any(one.requires_grad for one in model.backbone_parameters())
    assert not model.bn1.training
    assert phase_at((training.Phase("a", 2), training.Phase("b", 1)), 2).name == "b"
    fit(model, training.Phase("one", 1, train="backbone"))
    assert all(one.requires_grad for one in model.parameters())


def test_gates_have_a_learning_rate_and_no_weight_decay_of_their_own():
    model = gated()
    chosen = training.Settings(
        (training.Phase("both", 1), training.Phase("frozen", 1, train="backbone")),
        training.Sgd(0.01, weight_decay=5e-4, schedule=training.Steps((0.5,))),
        training.Sgd(0.1, schedule=training.Steps((0.5,))),
    )
    state = training.start(model, chosen, 4)
    parts = {name: one.param_groups[0] for name, one in state.optimizers.items()}
    assert parts["gates"]["weight_decay"] == 0
    assert parts["backbone"]["weight_decay"] == 5e-4
    assert {id(one) for one in parts["gates"]["params"]} == {id(p) for p in model.gate_parameters()}
    # Each schedule runs over the steps of its own part: 4 for the gates, 8 for the backbone.
    assert list(state.schedulers["gates"].milestones) == [2]
    assert list(state.schedulers["backbone"].milestones) == [4]


def test_gate_learning_rates_decay():
    _, rows = fit(gated(), training.Phase("both", 3))
    rates = [row.learning_rates["gates"] for row in rows]
    assert rates[0] > rates[1] > rates[2]
    assert rates[2] == pytest.approx(0, abs=1e-6)


def test_the_best_epoch_is_of_the_last_phase_and_its_weights_are_loaded():
    model = gated()
    state, rows = fit(model, training.Phase("a", 2), training.Phase("b", 2, train="backbone"))
    last = [row for row in rows if row.phase == "b"]
    assert state.best_score == max(row.validation.accuracy for row in last)
    assert state.best_epoch in {row.epoch for row in last}
    assert all(torch.equal(value, state.best_weights[k]) for k, value in model.state_dict().items())


def test_training_twice_from_one_seed_gives_the_same_weights():
    one, two = gated(), gated()
    fit(one, training.Phase("both", 2))
    fit(two, training.Phase("both", 2))
    assert all(torch.equal(value, two.state_dict()[k]) for k, value in one.state_dict().items())


def test_no_targets_are_computed_while_gates_are_frozen(monkeypatch):
    asked = []
    trace = ftwt.Gated.trace
    monkeypatch.setattr(
        ftwt.Gated, "trace",
        lambda self, *x, targets=True, **more: asked.append(targets)
        or trace(self, *x, targets=targets, **more),
    )  # fmt: skip
    fit(gated(), training.Phase("frozen", 1, train="backbone"))
    assert asked
    assert not any(asked)


def test_switches_train_too():
    _, rows = fit(gated(), training.Phase("both", 1), amp="bf16", channels_last=True, clip_norm=1.0)
    assert rows[0].losses["loss"] == pytest.approx(
        rows[0].losses["CrossEntropy"] + rows[0].losses["GateBCE"]
    )


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_half_precision_where_the_device_is_fast_at_it(fast, monkeypatch):
    monkeypatch.setattr(precision, "_has_fast_bf16", lambda kind: fast)
    _, chosen = fit(gated(), training.Phase("both", 1), amp="auto")
    _, half = fit(gated(), training.Phase("both", 1), amp="bf16")
    _, whole = fit(gated(), training.Phase("both", 1))
    assert half[0].losses != whole[0].losses
    assert chosen[0].losses == (half if fast else whole)[0].losses


def test_a_bad_batch_is_named_and_the_last_good_weights_stay():
    model = gated()
    bad = batches(4)
    chosen = training.Settings((training.Phase("both", 2),), training.Sgd(0.01), training.Sgd(0.01))
    good = {}

    def poison(row, state):
        good.update(snapshot(model))
        bad[2][0][0] = float("inf")

    state = training.start(model, chosen, 4)
    with pytest.raises(ftwt.FtwtError, match="not finite at epoch 2, batch 3"):
        training.fit(state, OBJECTIVE, chosen, bad, batches(1), after_epoch=poison)
    assert all(torch.equal(value, good[name]) for name, value in model.state_dict().items())


def test_bad_values():
    refused("epochs=0; give 1 or more", training.Phase, "a", 0)
    refused("train='head' is unknown", training.Phase, "a", 1, train="head")
    refused("lr=-1", training.Sgd, -1)
    refused(r"epochs=1.5; give 1 or more, a whole number", training.Phase, "a", 1.5)
    for bad in (float("inf"), float("nan")):
        refused(f"lr={bad}", training.Sgd, bad)
    refused("weight_decay=nan", training.Sgd, 0.1, weight_decay=float("nan"))
    refused("no phases", training.Settings, (), training.Sgd(0.1))
    chosen = training.Settings((training.Phase("a", 1),), training.Sgd(0.1))
    refused("no optimizer for the gates", training.start, gated(), chosen, 1)
    refused("gave no images", training.evaluate, gated(), [])


def pipeline() -> ftwt.Pipeline:
    torch.manual_seed(0)
    return ftwt.Pipeline(backbones.resnet8(), example=EXAMPLE)


def test_the_pipeline_trains():
    start = pipeline().gate(gates.PooledLinear()).target(targets.HeatmapMass(0.8))
    ready = start.loss(OBJECTIVE).schedule(
        training.Phase("gates", 1), training.Phase("freeze", 1, train="backbone")
    )
    result = ready.fit(batches(), batches(1))
    assert [row.phase for row in result.history] == ["gates", "freeze"]
    assert result.best_epoch == 1
    assert not result.model.training
    # Every step was a new value: the first ones can be used again.
    again = start.loss(losses.CrossEntropy()).schedule(training.Phase("x", 1, train="backbone"))
    assert again.before.objective != ready.before.objective
    assert ready.with_settings(amp="bf16").settings.amp == "bf16"
    assert ready.settings.amp is None


def test_the_pipeline_says_what_comes_next():
    with pytest.raises(ftwt.FtwtError, match=r"\.fit\(\) was called where \.gate\(\) comes next"):
        pipeline().fit([], [])
    with pytest.raises(ftwt.FtwtError, match=r"\.schedule\(\) was called where \.target\(\)"):
        pipeline().gate(gates.PooledLinear()).schedule(training.Phase("a", 1))
    refused(r"Pipeline.gate: got TopK, expected a gate", pipeline().gate, targets.TopK(0.5))
    with pytest.raises(ftwt.FtwtError, match=r"Pipeline.target: got PooledLinear"):
        pipeline().gate(gates.PooledLinear()).target(gates.PooledLinear())
    with pytest.raises(ftwt.FtwtError, match=r"Pipeline.loss: got TopK, expected a loss"):
        pipeline().gate(gates.PooledLinear()).target(targets.TopK(0.5)).loss(targets.TopK(0.5))
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = pipeline().anything


def test_a_wrong_order_or_part_is_a_type_error(tmp_path):
    code = tmp_path / "wrong.py"
    code.write_text(
        "import torch, ftwt\n"
        "from ftwt import gates, targets, training\n"
        "start = ftwt.Pipeline(torch.nn.Identity(), example=torch.zeros(1))\n"
        "start.schedule(training.Phase('a', 1))\n"
        "start.gate(targets.TopK(0.5))\n"
        "start.gate(gates.PooledLinear()).fit([], [])\n"
    )
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(code)]
    found = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    kinds = [(line.split(":")[1], line.rpartition("[")[2]) for line in found if ": error:" in line]
    assert kinds == [("4", "attr-defined]"), ("5", "arg-type]"), ("6", "attr-defined]")]


def test_what_was_frozen_before_training_stays_frozen():
    """Phases thaw what phases froze, also where a training ends in the middle of one."""
    model = gated()
    held = {name for name, _ in model.named_parameters() if name.startswith(("conv1", "layer1"))}
    for name, one in model.named_parameters():
        one.requires_grad_(name not in held)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    phases = training.Phase("gates", 1, train="gates"), training.Phase("all", 1)
    fit(model, *phases)
    for name, one in model.named_parameters():
        assert one.requires_grad == (name not in held), name
        assert torch.equal(one, before[name]) == (name in held), name
