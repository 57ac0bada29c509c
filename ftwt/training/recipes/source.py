"""A recipe's function as a script of its own, to copy and edit."""

import ast
import inspect
from types import ModuleType

from ftwt.training.recipes.catalogue import at_published_mass, find
from ftwt.training.recipes.recipe import Choices

_SCRIPT = '''"""{name}, {kind}, as ftwt trains it. Edit it, then run this file."""

from pathlib import Path

{imports}
from {module} import {train}


{function}

if __name__ == "__main__":
    {train}(
        {call},
        data.load("{data}"),
        Path("runs/my-{name}{suffix}"),
        name="my-{name}",
        init={init},{budget}
    )
'''


_FROM_WEIGHTS = ("-finetune", "-short", "-best")


def source(name: str, *, dense: bool = False) -> str:
    """The function behind a recipe with what it imports, and a call that trains it.

    Raises:
        FtwtError: no recipe of that name.
    """
    entry = find(name)
    make = entry.dense if dense else entry.dynamic
    module = inspect.getmodule(make)
    assert module is not None
    function = inspect.getsource(make)
    kind = "dense" if dense else "dynamic"
    escalates = make(entry.network, Choices()).escalation is not None
    return _SCRIPT.format(
        module="ftwt.budget" if escalates else "ftwt.training.runs",
        train="train_escalated_run" if escalates else "train_run",
        budget="\n        reduction=0.5," if escalates else "",
        name=name,
        kind=kind,
        imports=_imports(module, function),
        function=function,
        call=_call(name, dense=dense),
        data=_data(name),
        suffix="-dense" if dense else "",
        init=_init(name, dense=dense),
    )


def _call(name: str, *, dense: bool) -> str:
    entry = find(name)
    make = entry.dense if dense else entry.dynamic
    mass = None if dense else at_published_mass(entry, Choices()).mass
    return f'{make.__name__}("{entry.network}", Choices({"" if mass is None else f"mass={mass}"}))'


def _data(name: str) -> str:
    kind = name.partition("-")[0]
    return "imagenet:path/to/imagenet" if kind == "imagenet" else kind


def _init(name: str, *, dense: bool) -> str:
    """What the training starts from: nothing, torchvision's weights, or the dense run."""
    from_scratch = not name.endswith(_FROM_WEIGHTS)
    if dense and from_scratch:
        return "None"
    if name.startswith("imagenet-") and "mobilenet_v1" not in name:
        return '"torchvision"'
    start = name
    for suffix in _FROM_WEIGHTS:
        start = start.removesuffix(suffix)
    return f'Path("runs/my-{start}-dense")'


def _imports(module: ModuleType, function: str) -> str:
    """The imports of a module that a function of it uses, and the data sets."""
    used = {node.id for node in ast.walk(ast.parse(function)) if isinstance(node, ast.Name)}
    lines = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom):
            names = [one.name for one in node.names if one.name in used]
            if node.module == "ftwt":
                names = ["data", *names]
            if names:
                lines.append(f"from {node.module} import {', '.join(names)}")
    return "\n".join(lines)
