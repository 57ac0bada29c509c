"""From a network to its traced graph, with the shape of every tensor in it."""

import copy
import linecache
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.weight_norm import WeightNorm

from ftwt.errors import FtwtError
from ftwt.graph import faithful, kept, probing, randomness, tracer
from ftwt.graph.arguments import Arguments, Example
from ftwt.graph.arguments import arguments as bound
from ftwt.graph.own import not_the_users
from ftwt.graph.probing import PROBE_BATCH, Probed, noise

# Modules of networks that were prepared for quantization.
_QUANTIZED = (
    "torch.ao.quantization", "torch.ao.nn.qat", "torch.ao.nn.intrinsic.qat",
    "torch.ao.nn.quantized", "torchao.quantization",
)  # fmt: skip


@dataclass(frozen=True)
class Traced:
    """A network's graph and what one probe batch of `PROBE_BATCH` samples showed of it."""

    root: nn.Module
    graph: fx.Graph
    # How the network is called, and the types of its inputs.
    arguments: Arguments
    dtypes: tuple[torch.dtype, ...]
    # Types of modules that were not traced into.
    leaves: tuple[type[nn.Module], ...]
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

    @property
    def expected(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one sample of each input."""
        inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
        return tuple(tuple(self.shapes[node.name][1:]) for node in inputs)

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        if node.op != "call_module":
            return None
        return self.root.get_submodule(str(node.target))

    def shape(self, node: fx.Node) -> torch.Size | None:
        """The shape of a node's tensor for the probe batch, None for what is not a tensor."""
        return self.shapes.get(node.name)


def trace(
    network: nn.Module,
    example: Example,
    leaves: tuple[type[nn.Module], ...] = (),
    *,
    check: bool = True,
) -> Traced:
    """Copy `network`, trace the copy in eval mode and probe it with `example`.

    `check` runs the copy and its graph side by side: see `faithful.check_faithful`.

    Raises:
        FtwtError: the network does not trace, does not take the example, or its graph is not the
            same network.
    """
    name = type(network).__name__
    _check_kind(network)
    arguments, examples = bound(network, example)
    device = next((one.device for one in network.parameters()), None)
    for one in examples:
        if device is not None and one.device != device:
            raise FtwtError(
                f"attach: the example is on {one.device}, but {name} is on "
                f"{device}; move one of them with .to(device)"
            )
    try:
        root = copy.deepcopy(network)
    except Exception as error:
        raise FtwtError(_not_copied(network, error)) from error
    return retraced(root, arguments, examples, leaves, check=check)


def retraced(
    root: nn.Module,
    arguments: Arguments,
    examples: Sequence[Tensor],
    leaves: tuple[type[nn.Module], ...],
    *,
    check: bool,
) -> Traced:
    """Trace a network itself, not a copy: see `trace`."""
    name = arguments.network
    modes = {module: module.training for module in root.modules()}
    for module in modes:
        module.training = False
    before = kept.taken(root)
    try:
        with _other_random_numbers():
            inputs = dict(zip(arguments.inputs, noise(examples, PROBE_BATCH), strict=True))
            drawn = tracer.draw(root, leaves, arguments, inputs)
        kept.put_back(root, before, but=drawn.constants)
        before = kept.taken(root)
        probed = probing.probe(root, drawn.graph, examples)
    except FtwtError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, tracer.DoesNotRun) else None
        if cause is None:
            raise FtwtError(_untraceable(name, error)) from error
        shapes = ", ".join(str(tuple(one.shape)) for one in examples)
        raise FtwtError(
            f"attach: {name} does not run on example of shape {shapes} ({_line(cause)}); give one "
            "input of the shape and device that the network takes"
        ) from error
    kept.put_back(root, before)
    if check:

        def plain(module: nn.Module, inputs: Sequence[Tensor]) -> Any:
            args, kwargs = arguments.call(dict(zip(arguments.inputs, inputs, strict=True)))
            return module(*args, **kwargs)

        batches = [noise(examples, PROBE_BATCH + 1, seed) for seed in (1, 2)]
        faithful.check_faithful(
            root, drawn.graph, plain, *batches, frozen=drawn.frozen, assigned=drawn.assigned
        )
    for module, mode in modes.items():
        module.training = mode
    return Traced(
        root=root,
        graph=drawn.graph,
        arguments=arguments,
        dtypes=tuple(one.dtype for one in examples),
        leaves=leaves,
        probed=probed,
        frozen=drawn.frozen,
    )


def _check_kind(network: nn.Module) -> None:
    """Refuse networks inside of something that runs them."""
    name = type(network).__name__
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    if isinstance(network, parallel):
        raise FtwtError(
            f"attach: {name} runs a network on several devices; give the one inside of the {name}, "
            "network.module, and wrap what attach returns"
        )
    # By name, as an import of torch's compiler takes longer than tracing.
    if type(network).__module__.startswith("torch._dynamo"):
        raise FtwtError(
            "attach: the network was given to torch.compile; give the one inside of it, "
            "network._orig_mod, and compile what attach returns"
        )
    if isinstance(network, torch.jit.ScriptModule):
        raise FtwtError(
            "attach: the network is compiled by torch.jit, which leaves no Python to trace; give "
            "the network that it was made from"
        )
    for path, module in network.named_modules():
        if type(module).__module__.startswith(_QUANTIZED):
            raise FtwtError(
                f"attach: {path!r} is a {type(module).__name__}, so the network was prepared for "
                "quantization, and its observers would be left out; attach to the network as it "
                "was before, and prepare what attach returns"
            )


def _other_random_numbers() -> AbstractContextManager[None]:
    """Not those of a probe, so that what tracing takes for a constant shows itself."""
    return randomness.fixed_seed(1)


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


def _untraceable(network: str, error: Exception) -> str:
    """What to say of a network that does not trace: the line, and the module to leave alone."""
    where, module = "", "Module"
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not_the_users(file):
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
    if isinstance(error, TypeError):
        advice = (
            "a traced size is no plain number: give several to torch as one "
            f"tuple, or int(size), which is the example's for good then; else {advice}"
        )
    return f"attach: {network} does not trace with torch.fx{where} ({_line(error)}); {advice}"


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
