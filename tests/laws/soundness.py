"""What live channels promise, checked on a run of the gated graph."""

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ftwt.gated.passes import PlainPass
from ftwt.graph.insertion import insert_gates
from ftwt.graph.live import Evaluator


@dataclass(frozen=True)
class Convolution:
    """The input of one convolution in one run, (B, C) each."""

    dead: Tensor  # as the analysis says
    silent: Tensor  # exactly zero in the tensor that was computed


class _Capture(fx.Interpreter):
    """Keeps each node's tensor as it was when made, and whether it is zero when all have run."""

    def __init__(self, module, graph):
        super().__init__(module, graph=graph, garbage_collect_values=False)
        self.silent: dict[str, Tensor] = {}

    def run_node(self, n):
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.dim() >= 2:
            self.silent[n.name] = _silent(result)
        return result

    def after_all(self) -> dict[str, Tensor]:
        """Operations in place change tensors after they were made."""
        nodes = {node.name: value for node, value in self.env.items()}
        return {name: _silent(nodes[name]) for name in self.silent}


def _silent(value: Tensor) -> Tensor:
    assert not value.isnan().any()
    return (value == 0).flatten(2).all(2) if value.dim() > 2 else value == 0


def check(model, batch, masks) -> dict[str, Convolution]:
    """Assert that what is called dead is zero at every node; return what convolutions read."""
    traced, liveness = model.anatomy.traced, model.anatomy.liveness
    graph = insert_gates(traced, list(model.anatomy.sites))
    capture = _Capture(model, graph)
    with torch.no_grad():
        capture.run(PlainPass(), batch)
    gates_of = {site.output.name: f"gates.{site.key}" for site in model.anatomy.sites}
    by_target = {str(n.target): n.name for n in graph.nodes if n.op == "call_module"}
    live = Evaluator(masks, next(iter(masks.values())))
    consumers = {site.convolution.args[0].name for site in model.anatomy.candidates}
    seen: dict[str, Convolution] = {}
    for silent_of in (capture.silent, capture.after_all()):
        for node in traced.graph.nodes:
            name = by_target[gates_of[node.name]] if node.name in gates_of else node.name
            silent = silent_of.get(name)
            if silent is None or node.op in ("output", "get_attr") or len(silent) != len(batch):
                continue
            dead = ~live(liveness.channels(node)).expand(len(batch), -1)
            assert dead.shape == silent.shape
            assert (dead <= silent).all(), f"{node.name} ({node.target}) is not zero where dead"
            if node.name in consumers:
                seen.setdefault(node.name, Convolution(dead, silent))
    return seen
