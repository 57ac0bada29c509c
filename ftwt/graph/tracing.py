"""From a network to its traced graph, with the shape of every tensor in it."""

import copy
import linecache
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_leaves

from ftwt.errors import FtwtError
from ftwt.graph import tracer
from ftwt.graph.probing import PROBE_BATCH, Probed, noise, outside_inference, probe, seeded

# The frames of a traceback that are not the network's own code.
_NOT_THE_USERS = (Path(torch.__file__).parent, Path(__file__).parent)


@dataclass(frozen=True)
class Traced:
    """A network's graph and what one probe batch of `PROBE_BATCH` samples showed of it."""

    root: nn.Module
    graph: fx.Graph
    probed: Probed
    # Names of modules that stay in eval mode, as tracing decided what they do.
    frozen: tuple[str, ...]

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """By node name: the shape of a tensor for the probe batch."""
        return self.probed.shapes

    @property
    def values(self) -> Mapping[str, Any]:
        """By node name: the value of what is not a tensor."""
        return self.probed.values

    @property
    def macs(self) -> Mapping[str, int]:
        """By node name: MACs of one sample, as torch's own flop counter sees them / 2."""
        return self.probed.macs

    @property
    def changed(self) -> Mapping[str, tuple[str, ...]]:
        """By name of a node that works in place: the earlier nodes whose tensors it changes."""
        return self.probed.changed

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        if node.op != "call_module":
            return None
        return self.root.get_submodule(str(node.target))

    def shape(self, node: fx.Node) -> torch.Size | None:
        """The shape of a node's tensor for the probe batch, None for what is not a tensor."""
        return self.shapes.get(node.name)


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
    try:
        probed, output = probe(root, graph, examples)
    except Exception as error:
        shapes = ", ".join(str(tuple(one.shape)) for one in examples)
        raise FtwtError(
            f"attach: {name} does not run on example of shape {shapes} "
            f"({_line(error)}); give one input of the shape and device that the network takes"
        ) from error
    with outside_inference():
        if not _equal(seeded(root, noise(examples, PROBE_BATCH)), output):
            raise FtwtError(
                f"attach: {name} answers something else when traced by torch.fx; "
                "it may read under an old name what `x += y` changed in place: write "
                "x.add_(y), or give the module as leaves=(Module,)"
            )
    for path, module in root.named_modules():
        module.training = modes[path]
    return Traced(root, graph, probed, drawn.frozen)


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
