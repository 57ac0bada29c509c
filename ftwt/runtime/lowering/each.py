"""Which operations work on each channel alone, so that they can be given some of them."""

import copy

import torch
from torch import fx, nn

from ftwt.graph import calls, operations
from ftwt.graph.operations import Kind, Role
from ftwt.graph.tracing import Traced

_PADS = (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d, nn.ConstantPad2d, nn.ZeroPad2d)


def works_on_each(node: fx.Node, module: nn.Module | None, traced: Traced) -> bool:
    """Whether channel i of a node's result depends on channel i of its one tensor alone.

    It does so for any choice of channels: it has no number of channels in its arguments, and
    parameters, if any, by channel.
    """
    source, found = calls.source_of(node), operations.operation_of(node, module)
    tensors = [one for one in node.all_input_nodes if traced.shape(one) is not None]
    after = traced.shape(node)
    if source is None or tensors != [source] or after is None or found.mixes:
        return False
    before = traced.shapes[source.name]
    if len(before) < 2 or before[:2] != after[:2]:
        return False
    kind = operations.kind_of(node, module)
    if kind is Kind.MOVE:
        return found.role in (Role.COPY, Role.SAME) or _moves_in_space(node, module, len(before))
    if kind is Kind.REDUCE:
        return calls.reduces_space(node, len(before))
    if kind is Kind.SPATIAL:
        return found.space is None or len(before) == found.space + 2
    if found.role is Role.BATCH_NORM:
        return module is not None and all(map(activates, module.children()))
    own = next(module.parameters(), None) if module is not None else None
    by_channel = own is None or isinstance(module, nn.PReLU)
    passes = kind in (Kind.ELEMENTWISE, Kind.UNION, Kind.INTERSECTION) or found.activates
    return passes and by_channel


def activates(module: nn.Module) -> bool:
    """Whether a module is an activation, or nothing."""
    kind = operations.type_of(module)
    known = operations.TABLE.get(kind) if kind is not None else None
    fits = known is not None and (known.activates or known.role in (Role.SAME, Role.DROP))
    return fits and not operations.hooked(module)


@torch.no_grad()
def keeps_apart(module: nn.Module, shape: torch.Size, *, samples: bool) -> bool:
    """Whether a module that nothing is known of keeps channels apart, found out by a try.

    Args:
        module: in eval mode, such as another library's batch norm.
        shape: of what it is given (B, C, ...), with two samples at least.
        samples: whether it has to keep samples apart, too.
    """
    held = next((one for one in [*module.parameters(), *module.buffers()]
                 if one.is_floating_point()), torch.empty(0))  # fmt: skip
    one = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(held)
    other = one.clone()
    other[0 if samples else slice(None), ::2] = 0
    try:
        before, after = module(one), module(other)
    except Exception:
        return False
    if not isinstance(before, torch.Tensor) or before.shape[:2] != shape[:2]:
        return False
    same = torch.isclose(before, after, rtol=1e-4, atol=1e-5, equal_nan=True)
    return bool(same[:, 1::2].all()) and (not samples or bool(same[1:].all()))


def cut_each(module: nn.Module, channels: tuple[int, ...], width: int) -> nn.Module:
    """A module that works on each of `width` channels alone, for some of them."""
    made = copy.deepcopy(module)
    index = torch.tensor(channels, dtype=torch.long)
    for part in made.modules():
        held = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        for name, value in held:
            if value.shape != (width,) or channels == tuple(range(width)):
                continue
            some = value.detach()[index.to(value.device)].clone()
            parameter = isinstance(value, nn.Parameter)
            setattr(part, name, nn.Parameter(some, value.requires_grad) if parameter else some)
        for name in ("num_features", "num_parameters"):
            if getattr(part, name, None) == width:
                setattr(part, name, len(channels))
    return made


def _moves_in_space(node: fx.Node, module: nn.Module | None, rank: int) -> bool:
    """Whether a padding or a slice leaves batch and channels alone, without naming them."""
    if module is not None:
        return rank == 4 and operations.is_a(module, _PADS)
    if operations.is_padding(node):
        widths = calls.argument(node, 1, "pad")
        return isinstance(widths, (list, tuple)) and len(widths) <= 2 * (rank - 2)
    index = node.args[1] if operations.is_item(node) else None
    everything = slice(None)
    slices = isinstance(index, tuple) and all(isinstance(one, slice) for one in index)
    return slices and isinstance(index, tuple) and index[:2] == (everything, everything)
