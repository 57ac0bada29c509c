"""From a network to its traced graph, with the shape of every tensor in it."""

import copy
import linecache
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ftwt.errors import FtwtError
from ftwt.graph import tracer

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
    name = type(network).__name__
    examples = _checked(example)
    try:
        root = copy.deepcopy(network)
    except Exception as error:
        raise FtwtError(_not_copied(network, error)) from error
    modes = {path: module.training for path, module in root.named_modules()}
    root.eval()
    try:
        drawn = tracer.draw(root, leaves)
    except Exception as error:
        raise FtwtError(_untraceable(name, error)) from error
    graph = drawn.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    # A placeholder's one argument is its default.
    needed = [node for node in inputs if not node.args]
    if not len(needed) <= len(examples) <= len(inputs):
        raise FtwtError(
            f"attach: example has {_tensors(len(examples))}, but {name} takes {len(inputs)} "
            f"({', '.join(str(node.target) for node in inputs)}); give a tuple with one tensor for "
            "each"
        )
    device = next((one.device for one in root.parameters()), None)
    for one in examples:
        if device is not None and one.device != device:
            raise FtwtError(
                f"attach: the example is on {one.device}, but {name} is on "
                f"{device}; move one of them with .to(device)"
            )
    probe_inputs = [_noise(one) for one in examples]
    with _countable(), FlopCounterMode(display=False) as counter, torch.no_grad():
        probe = _Probe(root, graph, counter)
        try:
            traced = _seeded(probe.run, probe_inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(one.shape)) for one in examples)
            raise FtwtError(
                f"attach: {name} does not run on example of shape {shapes} "
                f"({_line(error)}); give one input of the shape and device that the network takes"
            ) from error
    with torch.no_grad():
        if not _equal(_seeded(root, probe_inputs), traced):
            raise FtwtError(
                f"attach: {name} answers something else when traced by torch.fx; "
                "it may read under an old name what `x += y` changed in place: write "
                "x.add_(y), or give the module as leaves=(Module,)"
            )
    for path, module in root.named_modules():
        module.training = modes[path]
    return Traced(
        root=root,
        graph=graph,
        shapes=probe.shapes,
        values=probe.values,
        macs=probe.macs,
        changed=probe.changed,
        frozen=drawn.frozen,
    )


def _checked(example: Any) -> tuple[Tensor, ...]:
    """The example's tensors."""
    examples = example if isinstance(example, tuple) else (example,)
    wrong = [one for one in examples if not isinstance(one, Tensor)]
    if wrong or not examples:
        came = f"is a {type(example).__name__}"
        if isinstance(example, tuple):
            came = f"holds {wrong[0]!r}" if wrong else "is an empty tuple"
        raise FtwtError(
            f"attach: example {came}; give an input of the network, such as "
            "torch.zeros(1, 3, 224, 224), or a tuple of its inputs"
        )
    for one in examples:
        if one.dim() == 0 or len(one) == 0:
            raise FtwtError(
                f"attach: example has shape {tuple(one.shape)}, which holds no sample; "
                "give at least one, such as torch.zeros(1, 3, 224, 224)"
            )
    return examples


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count} tensors"


def _not_copied(network: nn.Module, error: Exception) -> str:
    advice = "attach works on a copy, so give a network that copy.deepcopy takes"
    hooks = [hook for one in network.modules() for hook in one._forward_pre_hooks.values()]
    if any(isinstance(hook, WeightNorm) for hook in hooks):
        advice = (
            "torch.nn.utils.weight_norm makes what cannot be copied; use "
            "torch.nn.utils.parametrizations.weight_norm, or remove_weight_norm first"
        )
    kind = type(network).__name__
    return f"attach: {kind} cannot be copied ({_line(error).split('. ')[0]}); {advice}"


@contextmanager
def _countable() -> Iterator[None]:
    """Let attention run as products of matrices, which torch's counter sees on every device."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def probed(
    traced: Traced, root: nn.Module, examples: Sequence[Tensor], counter: FlopCounterMode
) -> Traced:
    """The same graph on inputs of another size; `root` holds the same modules, in eval mode."""
    probe = _Probe(root, traced.graph, counter)
    with _countable():
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
