"""Where gradients flow: the gate loss, the task loss, and evaluation."""

import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

import ftwt
from ftwt import gates, losses, targets
from tests.laws.components import DIFFERENTIABLE, TRAINABLE_GATES
from tests.laws.networks import examples, images, networks

every_gate = pytest.mark.parametrize("gate", TRAINABLE_GATES, ids=repr)


def attached(network, batch, gate, coupling, estimator=None):
    pruning = ftwt.Pruning(gate, targets.HeatmapMass(0.7), coupling, estimator or gates.Hard())
    model = ftwt.attach(network, pruning, example=batch[:1], where=lambda *_: True)
    return model.train()


def gradient(parameters) -> float:
    return sum(one.grad.abs().sum().item() for one in parameters if one.grad is not None)


@every_gate
@examples(0.15)
@given(networks(most=2), images())
def test_decoupled_gate_loss_leaves_the_backbone_alone(gate, network, batch):
    model = attached(network, batch.repeat(2, 1, 1, 1), gate, "decoupled")
    losses.GateBCE()(model.trace(batch.repeat(2, 1, 1, 1))).backward()
    for parameter in model.backbone_parameters():
        assert parameter.grad is None or not parameter.grad.any()
    assert gradient(model.gate_parameters()) > 0


@every_gate
def test_joint_gate_loss_reaches_the_backbone(gate):
    torch.manual_seed(0)
    network = ftwt.backbones.resnet8()
    batch = torch.randn(4, 3, 32, 32)
    model = attached(network, batch, gate, "joint")
    for parameter in model.gate_parameters():
        torch.nn.init.normal_(parameter)
    losses.GateBCE()(model.trace(batch)).backward()
    assert gradient(model.backbone_parameters()) > 0


@every_gate
@examples(0.15)
@given(networks(most=2), images())
def test_the_task_loss_never_reaches_a_hard_gate(gate, network, batch):
    batch = batch.repeat(2, 1, 1, 1)
    model = attached(network, batch, gate, "joint")
    F.cross_entropy(model(batch), torch.zeros(len(batch), dtype=torch.int64)).backward()
    assert all(parameter.grad is None for parameter in model.gate_parameters())


every_differentiable = pytest.mark.parametrize("estimator", DIFFERENTIABLE, ids=repr)


@every_differentiable
@examples(0.25)
@given(networks(most=2), images())
def test_in_evaluation_every_estimator_is_the_threshold(estimator, network, batch):
    batch = batch.repeat(2, 1, 1, 1)
    torch.manual_seed(0)
    hard = attached(network, batch, gates.PooledLinear(), "decoupled").eval()
    soft = attached(network, batch, gates.PooledLinear(), "decoupled", estimator)
    soft.load_state_dict(hard.state_dict())
    soft.eval()
    assert torch.equal(soft.trace(batch).output, hard(batch))


@every_differentiable
@every_gate
def test_a_budget_reaches_every_gate(gate, estimator):
    torch.manual_seed(0)
    batch = torch.randn(4, 3, 32, 32)
    network = ftwt.backbones.resnet8()
    model = attached(network, batch, gate, "decoupled", estimator)
    trace = model.trace(batch)
    loss = losses.MacBudget(0.01)(trace)
    # The budget is on the MACs that the report prints.
    share = trace.macs.double().mean() / model.dense_macs
    assert loss.item() == pytest.approx((share - 0.01).item() ** 2, rel=1e-5)
    loss.backward()
    assert all(gradient(site.parameters()) > 0 for site in model.gates.values())


@examples(0.25)
@given(networks(most=2), images())
def test_evaluation_builds_no_graph_and_computes_no_target(network, batch):
    calls = []

    class Spy(targets.Active):
        def keep(self, features):
            calls.append(features)
            return super().keep(features)

    pruning = ftwt.Pruning(target=Spy())
    model = ftwt.attach(network, pruning, example=batch[:1], where=lambda *_: True)
    labels = torch.zeros(len(batch), dtype=torch.int64)
    ftwt.training.evaluate(model, [(batch, labels)])
    model(batch)
    assert not calls
    with torch.inference_mode():
        assert not model.trace(batch, targets=False).output.requires_grad
    assert not calls
    model.trace(batch)
    assert calls


@every_gate
@examples(0.1)
@given(networks(most=2), images())
def test_gate_parameters_are_named_so(gate, network, batch):
    model = attached(network, batch, gate, "decoupled")
    own = {id(one) for one in model.gate_parameters()}
    for name, parameter in model.named_parameters():
        assert ("gate" in name) == (id(parameter) in own)
