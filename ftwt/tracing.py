"""From a network to its traced graph, with the shape of every tensor in it."""

import copy
import linecache
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ftwt import tracer
from ftwt.errors import FtwtError

# Shapes are taken from a batch of two, so that an operation that mixes samples shows itself.
PROBE_BATCH = 2
# The frames of a traceback that are not the network's own code.
_NOT_THE_USERS = (Path(torch.__file__).parent, Path(__file__).parent)


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
    # By name of a node that works in place: the earlier nodes whose tensors it changes.
    changed: dict[str, tuple[str, ...]]
    # Names of modules that stay in eval mode, as tracing decided what they do.
    frozen: tuple[str, ...]

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        if node.op != "call_module":
            return None
        return self.root.get_submodule(str(node.target))

    def shape(self, node: fx.Node) -> torch.Size | None:
        """The shape of a node's tensor for the probe batch, None for what is not a tensor."""
        return self.shapes.get(node.name)


class _Probe(fx.Interpreter):
    """Runs the graph once and notes shapes, values, MACs and what is changed in place."""

    def __init__(self, root: nn.Module, graph: fx.Graph, counter: FlopCounterMode) -> None:
        super().__init__(root, graph=graph)
        self.shapes: dict[str, torch.Size] = {}
        self.values: dict[str, Any] = {}
        self.macs: dict[str, int] = {}
        self.changed: dict[str, tuple[str, ...]] = {}
        self._counter = counter
        self._versions: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        before = self._counter.get_total_flops()
        result = super().run_node(n)
        flops = self._counter.get_total_flops() - before
        self.macs[n.name] = flops // 2 // PROBE_BATCH
        self._note_changes(n)
        self._versions[n.name] = _versions(result)
        if isinstance(result, Tensor):
            self.shapes[n.name] = result.shape
        elif not _holds_tensor(result):
            self.values[n.name] = result
        return result

    def _note_changes(self, node: fx.Node) -> None:
        """Which tensors, still to be read later, are not what they were before `node` ran.

        Views share one version counter with their base, so that all of them show.
        """
        changed = []
        for other, value in self.env.items():
            now = _versions(value)
            if now != self._versions[other.name]:
                self._versions[other.name] = now
                changed.append(other.name)
        if changed:
            self.changed[node.name] = tuple(changed)


def _versions(value: Any) -> tuple[int, ...]:
    """How often each tensor in a node's result was changed in place."""
    if isinstance(value, (list, tuple)):
        return tuple(version for item in value for version in _versions(item))
    return (value._version,) if isinstance(value, Tensor) else ()


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
        drawn = tracer.draw(root, leaves)
    except Exception as error:
        raise FtwtError(_untraceable(type(network).__name__, error)) from error
    graph = drawn.graph
    examples = example if isinstance(example, tuple) else (example,)
    wanted = [node.target for node in graph.nodes if node.op == "placeholder"]
    if len(examples) > len(wanted):
        raise FtwtError(
            f"attach: example has {len(examples)} tensors, but {type(network).__name__} takes "
            f"{len(wanted)} ({', '.join(map(str, wanted))}); give one tensor for each"
        )
    device = next((one.device for one in root.parameters()), None)
    for one in examples:
        if device is not None and one.device != device:
            raise FtwtError(
                f"attach: the example is on {one.device}, but {type(network).__name__} is on "
                f"{device}; move one of them with .to(device)"
            )
    probe_inputs = [_noise(one) for one in examples]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        probe = _Probe(root, graph, counter)
        try:
            traced = _seeded(probe.run, probe_inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(one.shape)) for one in examples)
            raise FtwtError(
                f"attach: {type(network).__name__} does not run on example of shape {shapes} "
                f"({_line(error)}); give one input of the shape and device that the network takes"
            ) from error
    with torch.no_grad():
        if not _equal(_seeded(root, probe_inputs), traced):
            raise FtwtError(
                f"attach: {type(network).__name__} answers something else when traced by torch.fx; "
                "it may read under an old name what `x += y` changed in place: write "
                "x.add_(y), or give the module as leaves=(Module,)"
            )
    for name, module in root.named_modules():
        module.training = modes[name]
    return Traced(
        root=root,
        graph=graph,
        shapes=probe.shapes,
        values=probe.values,
        macs=probe.macs,
        changed=probe.changed,
        frozen=drawn.frozen,
    )


def probed(
    traced: Traced, root: nn.Module, examples: Sequence[Tensor], counter: FlopCounterMode
) -> Traced:
    """The same graph on inputs of another size; `root` holds the same modules, in eval mode."""
    probe = _Probe(root, traced.graph, counter)
    _seeded(probe.run, [_noise(one) for one in examples])
    return replace(
        traced,
        root=root,
        shapes=probe.shapes,
        values=probe.values,
        macs=probe.macs,
        changed=probe.changed,
    )


def _noise(example: Tensor) -> Tensor:
    """Random inputs for the probe, as an example of zeros hides much; integers stay."""
    batch = torch.cat([example[:1]] * PROBE_BATCH)
    if not batch.is_floating_point() or batch.is_meta:
        return batch
    noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
    return noise.to(batch)


def _seeded(run: Callable[..., Any], inputs: list[Tensor]) -> Any:
    """Run on copies, as a network may change its inputs, with the same random numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return run(*[one.clone() for one in inputs])


def _equal(one: Any, two: Any) -> bool:
    """Whether two outputs of a network are the same; tensors without data are not compared."""
    pairs = zip(tree_leaves(one), tree_leaves(two), strict=True)
    return all(
        first.shape == second.shape
        and (first.is_meta or torch.allclose(first, second, rtol=1e-4, equal_nan=True))
        for first, second in pairs
        if isinstance(first, Tensor) and isinstance(second, Tensor)
    )


def _untraceable(network: str, error: Exception) -> str:
    """What to say of a network that does not trace: the line, and the module to leave alone."""
    where, module = "", "Module"
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if any(Path(file).is_relative_to(folder) for folder in _NOT_THE_USERS):
            continue
        source = linecache.getline(file, line).strip()
        where = f" at {file}:{line}" + (f" `{source}`" if source else "")
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            module = type(owner).__name__
    if module in (network, "Module"):
        advice = (
            "move what branches on values into a module of its own, and give its type as "
            "leaves=(Module,)"
        )
    else:
        advice = f"give leaves=({module},) to attach, which then does not look inside it"
    return f"attach: {network} does not trace with torch.fx{where} ({_line(error)}); {advice}"


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
