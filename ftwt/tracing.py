"""From a network to its traced graph, with the shape of every tensor in it."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from ftwt.errors import FtwtError

# Shapes are taken from a batch of two, so that an operation that mixes samples shows itself.
PROBE_BATCH = 2


@dataclass(frozen=True)
class Traced:
    """A network's graph and what one probe batch of `PROBE_BATCH` samples showed of it."""

    root: nn.Module
    graph: fx.Graph
    # By node name: the shape of a tensor, the value of what is not a tensor.
    shapes: dict[str, torch.Size]
    values: dict[str, Any]
    # By node name: MACs for one sample, as torch's own flop counter sees them (its count / 2).
    macs: dict[str, int]

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        if node.op != "call_module":
            return None
        return self.root.get_submodule(str(node.target))

    def shape(self, node: fx.Node) -> torch.Size | None:
        """The shape of a node's tensor for the probe batch, None for what is not a tensor."""
        return self.shapes.get(node.name)


class _Tracer(fx.Tracer):
    def __init__(self, leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        from torchvision.ops import StochasticDepth

        # StochasticDepth reads `self.training`, which tracing through it would freeze.
        return isinstance(m, (StochasticDepth, *self._leaves)) or super().is_leaf_module(
            m, module_qualified_name
        )


class _Probe(fx.Interpreter):
    """Runs the graph once and notes shapes, values and MACs."""

    def __init__(self, root: nn.Module, graph: fx.Graph, counter: FlopCounterMode) -> None:
        super().__init__(root, graph=graph)
        self.shapes: dict[str, torch.Size] = {}
        self.values: dict[str, Any] = {}
        self.macs: dict[str, int] = {}
        self._counter = counter

    def run_node(self, n: fx.Node) -> Any:
        before = self._counter.get_total_flops()
        result = super().run_node(n)
        flops = self._counter.get_total_flops() - before
        self.macs[n.name] = flops // 2 // PROBE_BATCH
        if isinstance(result, Tensor):
            self.shapes[n.name] = result.shape
        elif not _holds_tensor(result):
            self.values[n.name] = result
        return result


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_tensor(item) for item in value.values())
    return isinstance(value, Tensor)


def trace(
    network: nn.Module, example: Tensor | tuple[Tensor, ...], leaves: tuple[type[nn.Module], ...]
) -> Traced:
    """Copy `network`, trace the copy in eval mode and probe it with `example`.

    Raises:
        FtwtError: the network does not trace, or does not take the example.
    """
    root = copy.deepcopy(network)
    modes = {name: module.training for name, module in root.named_modules()}
    root.eval()
    try:
        graph = _Tracer(leaves).trace(root)
    except Exception as error:
        raise FtwtError(
            f"attach: {type(network).__name__} does not trace with torch.fx ({_line(error)}); "
            "give the modules that branch on values as leaves=(Module, ...)"
        ) from error
    examples = example if isinstance(example, tuple) else (example,)
    wanted = [node.target for node in graph.nodes if node.op == "placeholder"]
    if len(examples) > len(wanted):
        raise FtwtError(
            f"attach: example has {len(examples)} tensors, but {type(network).__name__} takes "
            f"{len(wanted)} ({', '.join(map(str, wanted))}); give one tensor for each"
        )
    probe_inputs = [torch.cat([one[:1]] * PROBE_BATCH) for one in examples]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        probe = _Probe(root, graph, counter)
        try:
            probe.run(*probe_inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(one.shape)) for one in examples)
            raise FtwtError(
                f"attach: {type(network).__name__} does not run on example of shape {shapes} "
                f"({_line(error)}); give one input of the shape and device that the network takes"
            ) from error
    for name, module in root.named_modules():
        module.training = modes[name]
    return Traced(root=root, graph=graph, shapes=probe.shapes, values=probe.values, macs=probe.macs)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
