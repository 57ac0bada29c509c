"""Live channels are sound: what the analysis calls dead is exactly zero, at every node."""

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import Tensor, fx

import ftwt
from ftwt import gates
from ftwt.liveness import Evaluator
from ftwt.model import insert_gates
from tests.laws.networks import images, networks, random_masks


class _Capture(fx.Interpreter):
    def __init__(self, module, graph):
        super().__init__(module, graph=graph)
        self.seen: dict[str, Tensor] = {}

    def run_node(self, n):
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.seen[n.name] = result.clone()
        return result


def check(model, batch, masks) -> tuple[int, int]:
    """Assert soundness; return how many channels at convolutions are zero, and were found."""
    traced, liveness = model.anatomy.traced, model.anatomy.liveness
    graph = insert_gates(traced, list(model.anatomy.sites))
    capture = _Capture(model, graph)
    with torch.no_grad():
        capture.run(None, batch)
    gates_of = {site.output.name: f"gates.{site.key}" for site in model.anatomy.sites}
    by_target = {str(n.target): n.name for n in graph.nodes if n.op == "call_module"}
    live = Evaluator(masks, next(iter(masks.values())))
    zero = found = 0
    consumers = {site.convolution.args[0].name for site in model.anatomy.candidates}
    for node in traced.graph.nodes:
        name = by_target[gates_of[node.name]] if node.name in gates_of else node.name
        value = capture.seen.get(name)
        if value is None or value.dim() < 2 or node.op == "output":
            continue
        dead = ~live(liveness.channels(node)).expand(len(batch), -1)
        assert dead.shape[1] == value.shape[1]
        silent = (value == 0).flatten(2).all(2) if value.dim() > 2 else value == 0
        assert (dead <= silent).all(), f"{node.name} ({node.target}) is not zero where dead"
        if node.name in consumers:
            zero += int(silent.sum())
            found += int((dead & silent).sum())
    return zero, found


@given(networks(), images(), st.integers(0, 2**16), st.sampled_from([0.0, 0.3, 0.7]))
def test_dead_channels_are_zero_at_every_node(network, batch, seed, share):
    plain = ftwt.attach(
        network, ftwt.Pruning(gate=gates.Fixed({})), example=batch[:1], where=lambda *_: True
    )
    masks = random_masks(plain, len(batch), seed, share)
    fixed = ftwt.Pruning(gate=gates.Fixed(masks))
    model = ftwt.attach(network, fixed, example=batch[:1], where=lambda *_: True).eval()
    trace = model.trace(batch)
    assert all(torch.equal(site.mask, masks[name]) for name, site in trace.sites.items())
    check(model, batch, masks)


@given(networks(), images())
def test_gates_do_not_change_the_network_that_was_given(network, batch):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = ftwt.attach(network, ftwt.Pruning(), example=batch[:1], where=lambda *_: True)
    model.train()
    trace = model.trace(batch)
    trace.output.sum().backward()
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    names = {name for name in model.state_dict() if not name.startswith("gates.")}
    assert names == set(before)
    model.load_state_dict(before, strict=False)
