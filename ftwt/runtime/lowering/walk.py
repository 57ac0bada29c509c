"""From a gated network to a program of steps."""

from dataclasses import replace
from typing import Any

import torch
from torch import fx

from ftwt.gated.anatomy import Anatomy
from ftwt.gated.model import Gated
from ftwt.runtime.lowering.building import Building, Constant
from ftwt.runtime.lowering.convolutions import convolution
from ftwt.runtime.lowering.elementary import known
from ftwt.runtime.lowering.peephole import tidied
from ftwt.runtime.program import Call, Other, Program, Value


def lower(model: Gated, anatomy: Anatomy) -> Program:
    """Describe what `model` does, in eval mode, on inputs of the shape that `anatomy` is for.

    Weights are those of the moment: folding copies them.
    """
    with torch.no_grad():
        program = _built(Building(model, anatomy, strict=False))
        if any(isinstance(step, Call) and step.changes for step in program.steps):
            program = _built(Building(model, anatomy, strict=True))
    return program


def _built(building: Building) -> Program:
    """Go through the graph."""
    convolutions = {one.convolution: one for one in building.anatomy.candidates}
    entangled = building.entangled()
    inputs: list[Value | Other] = []
    result: Any = None
    for node in building.traced.graph.nodes:
        if node in building.fused:
            continue
        if node.op == "placeholder":
            inputs += _placeholder(building, node)
        elif node.op == "get_attr":
            building.made[node] = Constant(building.attribute(str(node.target)))
        elif node.op == "output":
            result = fx.node.map_arg(node.args[0], building.argument)
        elif building.is_constant(node):
            args = fx.node.map_arg((node.args, node.kwargs), building.argument)
            building.made[node] = Constant(building.runner(node)(*args[0], **args[1]))
        elif node in convolutions:
            convolution(building, convolutions[node])
        elif node in entangled or not known(building, node):
            building.as_is(node)
    program = Program(tuple(inputs), tuple(building.steps), result)
    weights = (one for one in building.model.parameters() if one.is_floating_point())
    for one in weights:
        program = replace(program, dtype=one.dtype, device=one.device)
        break
    return tidied(program)


def _placeholder(building: Building, node: fx.Node) -> list[Value | Other]:
    if building.traced.shape(node) is None:
        building.made[node] = Constant(building.traced.values.get(node.name))
        return []
    # One number for each sample, such as a class, is no value: those have channels.
    known = building.batch_shape(node) is not None
    value = building.value(node) if known else Other(node.name)
    building.made[node] = value
    if building.strict:
        # What works in place must not reach the caller's tensor.
        building.call(node, torch.clone, (value,), {})
    return [value]
