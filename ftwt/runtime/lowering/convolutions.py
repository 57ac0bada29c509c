"""A convolution, and what follows it up to its site's output, as one step if possible."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from torch import fx, nn
from torch.nn import functional as F

from ftwt.graph import calls, operations
from ftwt.graph.live import All, OfSite
from ftwt.graph.sites import Candidate
from ftwt.runtime.lowering import recognise
from ftwt.runtime.lowering.building import Building
from ftwt.runtime.lowering.each import activates, keeps_apart
from ftwt.runtime.lowering.elementary import known
from ftwt.runtime.program import Activation, Call, Conv, MaskStep, Other, Value

_T = TypeVar("_T")


def convolution(building: Building, candidate: Candidate) -> None:
    """Add the steps of a convolution: its gate if it is a site, itself, and a mask if need be."""
    node = candidate.convolution
    source = calls.source_of(node)
    value = building.made.get(source) if source is not None else None
    site = building.site_of.get(candidate.output)
    conv = recognise.convolution_of(node, building.module(node), building.read)
    if not isinstance(value, Value):
        building.as_is(node)
        if site is not None and isinstance(value, Other):
            for one in _until(node, candidate.output):
                building.as_is(one)
                building.fused.add(one)
            building.decide_rows(candidate, value)
        return
    if site is not None:
        building.decide(candidate, value)
    rest = _until(node, candidate.output)
    if site is not None and not all(_leaves_alone(building, one) for one in rest):
        # What follows needs filters that the mask leaves out.
        conv = None
    if conv is None:
        building.as_is(node)
    else:
        _fuse(building, candidate, value, conv, rest)
    for one in rest:
        if not known(building, one):
            building.as_is(one)
        building.fused.add(one)
    if site is not None and (conv is None or rest):
        bare = building.made[candidate.output]
        assert isinstance(bare, Value)
        value = building.value(candidate.output, masked=True)
        building.steps.append(MaskStep(f"{value.name}_masked", bare, value, site))
        building.made[candidate.output] = value


def _leaves_alone(building: Building, node: fx.Node) -> bool:
    """Whether a norm or activation makes of each filter the same, whichever others run.

    Of each sample's filters, where gates decide them.
    """
    module = building.module(node)
    norm = recognise.norm(node, module, building.read)
    if norm is not None:
        return norm.activation is None or activates(norm.activation)
    if operations.is_activation(node, module) and not operations.hooked(module):
        return True
    if module is None:
        # A batch norm of the batch's own statistics, which all samples share.
        return not building.gates
    source = calls.source_of(node)
    assert source is not None
    return keeps_apart(module, building.traced.shapes[source.name], samples=building.gates)


def _fuse(
    building: Building,
    candidate: Candidate,
    value: Value,
    conv: recognise.Convolution,
    rest: list[fx.Node],
) -> None:
    """One step for a convolution and as much as possible of what follows, taken off `rest`."""
    node = candidate.convolution
    site = building.site_of.get(candidate.output)
    taken = [node]

    def norms(node: fx.Node, module: nn.Module | None) -> recognise.Norm | None:
        return recognise.norm(node, module, building.read)

    norm = _take(building, rest, taken, norms) if building.fold else None
    activation: Activation | None = None
    extra = None if norm is None else norm.activation
    if norm is not None:
        conv = recognise.folded_convolution(conv, norm)
    if not building.gates:
        # Activations are calls.
        pass
    elif extra is not None:
        activation = recognise.activation_of(extra)
        extra = extra if activation is None else None
    else:
        activation = _take(building, rest, taken, recognise.activation)
    if extra is None and all(
        operations.computes_as(building.module(one), nn.Identity) for one in rest
    ):
        taken += rest
        rest.clear()
    if conv.pad_mode != "constant":
        value, conv = _padded(building, node, value, conv)
    output = building.value(taken[-1], masked=not rest and extra is None)
    if site is not None and (rest or extra is not None):
        output = replace(output, live=OfSite(site, output.shape[0]))
    building.steps.append(
        Conv(
            building.names.get(node, candidate.name), value, output, conv.weight, conv.bias,
            conv.stride, conv.padding, conv.dilation, conv.groups, activation, site,
        )
    )  # fmt: skip
    building.made.update(dict.fromkeys(taken, output))
    building.fused.update(taken)
    if extra is not None:
        whole = Value(f"{output.name}_act", output.shape, All(output.shape[0]))
        building.steps.append(Call(whole.name, extra, (output,), {}, whole, each=activates(extra)))
        building.made[taken[-1]] = whole
        if site is not None and not rest:
            masked = building.value(candidate.output, masked=True)
            building.steps.append(MaskStep(f"{masked.name}_masked", whole, masked, site))
            building.made[candidate.output] = masked


def _take(
    building: Building,
    rest: list[fx.Node],
    taken: list[fx.Node],
    known: Callable[[fx.Node, nn.Module | None], _T | None],
) -> _T | None:
    """What the next node of `rest` is, past modules that do nothing; it goes to `taken`."""
    for place, node in enumerate(rest):
        module = building.module(node)
        if operations.computes_as(module, nn.Identity):
            continue
        found = known(node, module)
        if found is not None:
            taken += rest[: place + 1]
            del rest[: place + 1]
        return found
    return None


def _padded(
    building: Building, node: fx.Node, value: Value, conv: recognise.Convolution
) -> tuple[Value, recognise.Convolution]:
    """Padding that is not zeros, as a step of its own."""
    (high, wide), (rows, columns) = value.shape[1:], conv.padding
    shape = (value.shape[0], high + 2 * rows, wide + 2 * columns)
    output = Value(f"{node.name}_padded", shape, value.live)
    pad = partial(F.pad, pad=(columns, columns, rows, rows), mode=conv.pad_mode)
    building.steps.append(Call(output.name, pad, (value,), {}, output, each=True))
    return output, replace(conv, padding=(0, 0), pad_mode="constant")


def _until(node: fx.Node, last: fx.Node) -> list[fx.Node]:
    """What follows a node, up to `last`, each the only reader of the one before."""
    found: list[fx.Node] = []
    while node is not last:
        node = next(iter(node.users))
        found.append(node)
    return found
