"""From a gated network to a program of steps."""

from dataclasses import replace
from typing import Any

import torch
from torch import fx

from ftwt.errors import FtwtError
from ftwt.gated.anatomy import Anatomy
from ftwt.gated.model import Gated
from ftwt.graph import proxies, regions
from ftwt.runtime.lowering.building import Building
from ftwt.runtime.lowering.convolutions import convolution
from ftwt.runtime.lowering.elementary import known
from ftwt.runtime.lowering.peephole import tidied
from ftwt.runtime.program import Call, ConstantValue, Other, Program, Value


def lower(model: Gated, anatomy: Anatomy, *, gates: bool = True, fold: bool = True) -> Program:
    """Describe what `model` does, in eval mode, on inputs of the shape that `anatomy` is for.

    Weights are those of the moment: folding copies them, and what weights are computed from, such
    as those of a weight norm, is computed once.

    Args:
        model: the network, with its weights.
        anatomy: what is known of it.
        gates: with steps that decide masks. Without, for masks that are known beforehand, nothing
            is in the program that holds for one size of image or one back end alone: activations
            and pools are calls, and constants say where they are from.
        fold: fold batch norms into convolutions and leave dropouts out. Without, each is a call of
            the network's own module, which can be trained.
    """
    with torch.no_grad():
        program = _built(Building(model, anatomy, strict=False, gates=gates, fold=fold))
        if any(isinstance(step, Call) and step.changes for step in program.steps):
            program = _built(Building(model, anatomy, strict=True, gates=gates, fold=fold))
    return program


def _built(building: Building) -> Program:
    """Go through the graph."""
    _check_precision(building)
    convolutions = {one.convolution: one for one in building.anatomy.candidates}
    _constants(building)
    inputs: list[Value | Other] = []
    result: Any = None
    # They hold for every input of this size, but a cut network takes others.
    traced = building.traced
    checks = proxies.checks(traced.graph, traced.values) if building.gates else frozenset()
    for node in traced.graph.nodes:
        known_before = isinstance(building.made.get(node), ConstantValue)
        if node in building.fused or node in checks or known_before:
            continue
        if node.op == "placeholder":
            inputs.append(_placeholder(building, node))
            continue
        building.share(inputs)
        if node.op == "output":
            result = fx.node.map_arg(node.args[0], building.argument)
        elif node in convolutions:
            convolution(building, convolutions[node])
        elif node in building.entangled or not known(building, node):
            building.as_is(node)
    program = Program(tuple(inputs), tuple(building.steps), result)
    weights = (one for one in building.model.parameters() if one.is_floating_point())
    for one in weights:
        program = replace(program, dtype=one.dtype, device=one.device)
        break
    return tidied(program)


def _constants(building: Building) -> None:
    """All that is known before any input comes; a site's norm may have its weights after it."""
    for node in building.traced.graph.nodes:
        if node.op == "get_attr":
            path = str(node.target)
            building.made[node] = ConstantValue(building.attribute(path), path)
        elif node.op == "placeholder" and building.traced.shape(node) is None:
            building.made[node] = ConstantValue(building.traced.values.get(node.name))
        elif node.op != "output" and building.is_constant(node):
            building.made[node] = building.constant(node)


def _check_precision(building: Building) -> None:
    """Refuse stretches under autocast, and those without gradient where all is to be trained."""
    device = next((one.device.type for one in building.model.parameters()), "cpu")
    for node in building.traced.graph.nodes:
        what = "skip" if building.gates else "cut"
        if regions.casts(node, device):
            raise FtwtError(
                f"{what}: {node.name} runs under autocast inside of forward, but here all runs in "
                "the weights' own precision; take the autocast out of forward, and convert the "
                "model with .to(torch.bfloat16) if that is what it should compute in"
            )
        if not building.fold and regions.region_of(node) != regions.with_gradient(
            regions.region_of(node)
        ):
            raise FtwtError(
                f"{what}: {node.name} runs without gradient inside of forward, which the smaller "
                "network would not; freeze its parameters instead, with requires_grad_(False)"
            )


def _placeholder(building: Building, node: fx.Node) -> Value | Other:
    # One number for each sample, such as a class, is no value: those have channels.
    known = building.batch_shape(node) is not None
    value = building.value(node) if known else Other(node.name)
    building.made[node] = value
    if building.strict:
        # What works in place must not reach the caller's tensor.
        building.call(node, torch.clone, (value,), {})
    return value
