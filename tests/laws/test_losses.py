"""Laws of losses: they add up, print, and read what they say they read."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ftwt
from ftwt import backbones, gates, losses
from tests.laws.components import LOSSES
from tests.small import refused

IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8)
weights = st.floats(0.1, 10)


def with_teacher(loss):
    """The loss, and the teacher that a training would give it."""
    return losses.with_teacher(losses.Objective.of(loss), dense()).terms[0][1]


def dense() -> nn.Module:
    torch.manual_seed(1)
    return backbones.resnet8()


def gated(**options) -> ftwt.Gated:
    torch.manual_seed(0)
    pruning = ftwt.Pruning(estimator=gates.StraightThrough(), **options)
    return ftwt.attach(backbones.resnet8(), pruning, example=IMAGES[:1])


every_loss = pytest.mark.parametrize("loss", [with_teacher(loss) for loss in LOSSES], ids=repr)


@every_loss
def test_a_finite_scalar_with_a_gradient(loss):
    value = loss(gated().trace(IMAGES), LABELS)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value > 0
    assert value.isfinite()
    assert value.requires_grad


@every_loss
@given(weights)
def test_a_weight_on_either_side_is_the_same_objective(loss, weight):
    assert loss * weight == weight * loss
    twice = (loss * weight) * 2.0
    assert twice.terms == ((2.0 * weight, loss),)


@every_loss
def test_a_weight_that_is_no_number_is_refused(loss):
    with pytest.raises(ftwt.FtwtError, match="multiplied by True"):
        _ = loss * True
    with pytest.raises(ftwt.FtwtError, match="the weight nan; give a finite number"):
        _ = float("nan") * loss


def test_all_losses_add_up_and_report_their_parts():
    trace = gated().trace(IMAGES)
    chosen = {type(loss): with_teacher(loss) for loss in LOSSES}.values()
    objective = losses.Objective(tuple((0.5, loss) for loss in chosen))
    report = objective(trace, LABELS)
    alone = {type(loss).__name__: loss(trace, LABELS) for loss in chosen}
    assert report.parts.keys() == alone.keys()
    assert all(torch.equal(report.parts[name], alone[name]) for name in alone)
    assert torch.allclose(report.total, 0.5 * sum(alone.values()))


def test_a_network_that_answers_with_no_logits():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return {"out": self.head(self.conv(x))}

    model = ftwt.attach(Odd(), ftwt.Pruning(), example=IMAGES[:1])
    trace = model.trace(IMAGES)
    for loss in (losses.CrossEntropy(), losses.Distillation(dense())):
        refused(r"output is dict, expected logits \(B, classes\)", loss, trace, LABELS)
    assert losses.GateBCE()(trace).isfinite()


def test_an_objective_without_a_loss_says_why():
    with pytest.raises(ftwt.FtwtError, match="nothing to minimise; GateBCE trains gates alone"):
        losses.Objective(())(gated().trace(IMAGES))


class TestDistillation:
    def test_its_formula(self):
        trace, teacher = gated().trace(IMAGES), dense().eval()
        value = losses.Distillation(teacher, temperature=3.0, weight=0.7)(trace)
        log_p = (teacher(IMAGES) / 3).log_softmax(1)
        log_q = (trace.output / 3).log_softmax(1)
        wanted = 0.7 * 9 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
        assert value.item() == pytest.approx(wanted.item(), rel=1e-5)

    def test_nothing_to_learn_from_oneself(self):
        model = gated().eval()
        plain = losses.Distillation(model)(model.trace(IMAGES))
        assert plain.item() == pytest.approx(0, abs=1e-6)

    def test_the_teacher_is_a_frozen_copy_in_eval_mode(self):
        network, model = dense(), gated()
        loss = losses.Distillation(network)
        before = loss(model.trace(IMAGES)).item()
        assert network.training
        assert all(one.requires_grad for one in network.parameters())
        with torch.no_grad():
            network.fc.weight.add_(1.0)
        model.zero_grad()
        value = loss(model.trace(IMAGES))
        value.backward()
        assert value.item() == pytest.approx(before)
        assert not loss.teacher.training
        assert all(one.grad is None for one in loss.teacher.parameters())
        assert any(one.grad is not None for one in model.backbone_parameters())
        assert not any("teacher" in name for name in model.state_dict())

    def test_a_teacher_is_given_to_those_without_one_only(self):
        own, other = dense(), dense()
        first = losses.Distillation(own)
        kept = losses.with_teacher(losses.CrossEntropy() + first, other)
        assert kept.terms[1][1].teacher is first.teacher
        made = losses.with_teacher(2.0 * losses.Distillation(temperature=2.0), other)
        weight, loss = made.terms[0]
        assert (weight, loss.temperature, loss.weight) == (2.0, 2.0, 0.5)
        assert loss.teacher is not None

    def test_messages(self):
        trace = gated().trace(IMAGES)
        refused(r"there is no teacher; give .*Distillation\(", losses.Distillation(), trace)
        with pytest.raises(ftwt.FtwtError, match=r"answers \(8, 100\), the network \(8, 10\)"):
            losses.Distillation(backbones.resnet8(num_classes=100))(trace)
        refused("temperature=0", losses.Distillation, temperature=0)
        refused("weight=nan", losses.Distillation, weight=float("nan"))


class TestBalance:
    @pytest.mark.parametrize("balance", ["site", "filter"])
    def test_on_and_off_weigh_the_same(self, balance):
        """At equal logits each filter (or site) then pulls its logits nowhere on balance."""
        trace = _with_logits(gated().trace(IMAGES), 0.0)
        logits = {name: site.logits.requires_grad_() for name, site in trace.sites.items()}
        losses.GateBCE(balance=balance)(trace).backward()
        for name, site in trace.sites.items():
            on = site.target.float().mean(0 if balance == "filter" else (0, 1))
            mixed = (on > 0) & (on < 1)
            pull = logits[name].grad.sum(0 if balance == "filter" else (0, 1))
            assert mixed.any()
            assert torch.allclose(pull[mixed], torch.zeros_like(pull[mixed]), atol=1e-6)

    @pytest.mark.parametrize("balance", [None, "site", "filter"])
    def test_the_mean_weight_is_one(self, balance):
        """At logits 0 every target costs log 2 times its weight."""
        trace = _with_logits(gated().trace(IMAGES), 0.0)
        channels = sum(site.target.shape[1] for site in trace.sites.values())
        wanted = channels * torch.log(torch.tensor(2.0)) / len(trace.sites)
        assert torch.allclose(losses.GateBCE(balance=balance)(trace), wanted, rtol=1e-5)

    def test_unknown(self):
        refused("balance='class' is unknown; use None, 'site'", losses.GateBCE, balance="class")


def _with_logits(trace: ftwt.Trace, value: float) -> ftwt.Trace:
    sites = {
        name: site._replace(logits=torch.full_like(site.logits, value))
        for name, site in trace.sites.items()
    }
    return trace._replace(sites=sites)
