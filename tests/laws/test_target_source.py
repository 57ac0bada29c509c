"""Laws of targets taken from the dense network instead of the masked pass."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ftwt
from ftwt import gates, losses, targets, training
from tests.laws.networks import examples, images, networks
from tests.small import refused

RULE = targets.HeatmapMass(0.7)


def attached(network, batch, gate=None, source="dense", **options) -> ftwt.Gated:
    pruning = ftwt.Pruning(gate or gates.Random(0.4), RULE, target_source=source, **options)
    return ftwt.attach(network, pruning, example=batch[:1], where=lambda *_: True)


@examples(0.3)
@given(networks(), images(), st.booleans())
def test_targets_are_those_of_the_network_with_every_filter_on(network, batch, training):
    batch = batch.repeat(2, 1, 1, 1)
    model = attached(network, batch).train(training)
    plain = attached(network, batch, gates.Fixed({}), "masked").train(training)
    wanted, found = (_seeded(one, batch).sites for one in (plain, model))
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name].target, wanted[name].target) for name in wanted)


@examples(0.25)
@given(networks(), images())
def test_the_dense_pass_leaves_nothing_behind(network, batch):
    batch = batch.repeat(2, 1, 1, 1)
    model = attached(network, batch).train()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    assert not any(one.requires_grad for one in model.dense_targets(batch).values())
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    # The masked pass then moves running statistics as it does without the dense one.
    masked = attached(network, batch, source="masked").train()
    assert torch.equal(_seeded(model, batch).output, _seeded(masked, batch).output)
    pairs = zip(model.state_dict().values(), masked.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@examples(0.25)
@given(networks(), images())
def test_outputs_do_not_depend_on_where_targets_come_from(network, batch):
    dense, masked = (attached(network, batch, source=one).eval() for one in ("dense", "masked"))
    assert torch.equal(dense.trace(batch).output, masked(batch))


@examples(0.25)
@given(networks(), images())
def test_an_oracle_answers_with_the_dense_targets(network, batch):
    model = attached(network, batch, gates.Oracle()).eval()
    wanted = model.dense_targets(batch)
    trace = model.trace(batch, targets=False)
    assert all(torch.equal(site.mask, wanted[name]) for name, site in trace.sites.items())
    assert torch.equal(trace.output, model(batch))


def test_no_dense_pass_where_no_target_is_asked_for(monkeypatch):
    batch = torch.randn(2, 3, 32, 32)
    model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(target_source="dense"),
                        example=batch[:1])  # fmt: skip
    asked = []
    dense = ftwt.Gated.dense_targets
    monkeypatch.setattr(
        ftwt.Gated, "dense_targets", lambda self, *x: asked.append(1) or dense(self, *x)
    )
    model(batch)
    model.trace(batch, targets=False)
    assert not asked
    model.trace(batch)
    assert len(asked) == 1


@pytest.mark.parametrize("precise", [True, False])
def test_every_parameter_still_learns(precise):
    """Also in bfloat16, where autocast keeps converted weights from one pass to the next."""
    torch.manual_seed(0)
    batch = torch.randn(4, 3, 32, 32)
    pruning = ftwt.Pruning(target_source="dense")
    model = ftwt.attach(ftwt.backbones.resnet8(), pruning, example=batch[:1])
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
        trace = model.trace(batch)
    objective = losses.CrossEntropy() + losses.GateBCE()
    objective(trace, torch.arange(4)).total.backward()
    assert all(one.grad is not None and one.grad.any() for one in model.parameters())


@examples(0.25)
@given(networks(most=2), images())
def test_decoupled_stays_decoupled(network, batch):
    model = attached(network, batch.repeat(2, 1, 1, 1), gates.PooledLinear()).train()
    losses.GateBCE()(model.trace(batch.repeat(2, 1, 1, 1))).backward()
    assert not any(p.grad is not None and p.grad.any() for p in model.backbone_parameters())


@examples(0.25)
@given(networks(most=2), images())
def test_a_teachers_targets_stay_when_weights_move(network, batch):
    model = attached(network, batch, source="teacher").eval()
    model.keep_teacher()
    before = model.dense_targets(batch)
    plain = attached(network, batch, gates.Fixed({}), "masked").eval().trace(batch).sites
    assert all(torch.equal(before[name], plain[name].target) for name in plain)
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one))
    model.train()
    after = model.trace(batch.repeat(2, 1, 1, 1)).sites
    assert all(torch.equal(after[name].target[: len(batch)], before[name]) for name in before)


def test_a_teacher_is_kept_by_start_and_saved_nowhere():
    batch = torch.randn(2, 3, 32, 32)
    model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(target_source="teacher"),
                        example=batch[:1])  # fmt: skip
    names = list(model.state_dict())
    refused(r"has none; call model.keep_teacher\(\)", model.trace, batch)
    chosen = training.Settings((training.Phase("a", 1),), training.Sgd(0.1), training.Sgd(0.1))
    training.start(model, chosen, 1)
    model.trace(batch)
    assert list(model.state_dict()) == names
    assert len(list(model.parameters())) == len(model.backbone_parameters()) + len(
        model.gate_parameters()
    )


def test_unknown_source():
    refused("target_source='both' is unknown; use 'masked'", ftwt.Pruning, target_source="both")


def _seeded(model: ftwt.Gated, batch: torch.Tensor) -> ftwt.Trace:
    """A trace after a fixed seed, so that dropout draws the same."""
    torch.manual_seed(0)
    return model.trace(batch)
