"""A recipe as a script of its own, to copy and edit."""

import json
import re
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from ftwt.errors import FtwtError
from ftwt.gated.pruning import Pruning
from ftwt.io.user_code import is_file
from ftwt.losses import Objective
from ftwt.training.recipes.catalogue import recipe
from ftwt.training.recipes.recipe import Escalation, Overrides

_SCRIPT = '''"""{name}, {kind}, as ftwt trains it. Edit it, then run this file."""

from pathlib import Path

{imports}
from {module} import {train}

recipe = {recipe}

if __name__ == "__main__":
    {train}(
        recipe,
        data.load("{data}"),
        Path("runs/my-{name}{suffix}"),
        name="my-{name}",
        init={init},{budget}
    )
'''
_WIDTH = 96
_FROM_WEIGHTS = ("-finetune", "-short", "-best")


def source(name: str, *, dense: bool = False) -> str:
    """The recipe's parts written out with what they import, and a call that trains it.

    Raises:
        FtwtError: no recipe of that name.
    """
    if is_file(name):
        raise FtwtError(f"recipe: {name} is a script already; copy and edit it")
    made = recipe(name, Overrides(), dense=dense)
    # Of networks of other packages, whose names are none of files.
    called = name.replace(":", "-")
    written = expression(made)
    escalates = made.escalation is not None
    packages = {"data", "training", *re.findall(r"\b([a-z_]+)\.[A-Z]", written)}
    own = "import ftwt\n" if "ftwt" in packages else ""
    return _SCRIPT.format(
        module="ftwt.budget" if escalates else "ftwt.training.runs",
        train="train_escalated_run" if escalates else "train_run",
        budget="\n        reduction=0.5," if escalates else "",
        name=called,
        kind="dense" if dense else "dynamic",
        imports=f"{own}from ftwt import {', '.join(sorted(packages - {'ftwt'}))}",
        recipe=written,
        data=_data(name),
        suffix="-dense" if dense else "",
        init=_init(called, dense=dense),
    )


def expression(value: Any, indent: int = 0) -> str:
    """A value of dataclasses and tuples as Python that makes it, without what is default."""
    if isinstance(value, Objective):
        terms = [
            expression(loss, indent) if weight == 1 else f"{weight!r} * {expression(loss, indent)}"
            for weight, loss in value.terms
        ]
        return " + ".join(terms) if len(terms) > 1 else f"losses.Objective.of({terms[0]})"
    if is_dataclass(value) and not isinstance(value, type):
        chosen = [one for one in fields(value) if _is_worth_writing(value, one)]
        opening = f"{_name(type(value))}("
        parts = [(f"{one.name}=", getattr(value, one.name)) for one in chosen]
    elif isinstance(value, tuple):
        opening, parts = "(", [("", one) for one in value]
    else:
        return json.dumps(value) if isinstance(value, str) else repr(value)
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    line = opening + ", ".join(name + expression(one) for name, one in parts) + comma + ")"
    if len(line) + indent <= _WIDTH and "\n" not in line:
        return line
    deeper = " " * (indent + 4)
    lines = (f"{deeper}{name}{expression(one, indent + 4)},\n" for name, one in parts)
    return f"{opening}\n{''.join(lines)}{' ' * indent})"


def _is_worth_writing(value: Any, one: Any) -> bool:
    """Whether a field is chosen, or one of the overrides that make the method."""
    given = getattr(value, one.name)
    default = one.default if one.default_factory is MISSING else one.default_factory()
    return isinstance(value, (Pruning, Escalation)) or bool(given != default)


def _name(kind: type) -> str:
    """How a script calls a type of ftwt: by its package."""
    _, package, module, *_ = kind.__module__.split(".")
    if package == "gated":
        package = module if module == "escalation" else "ftwt"
    return f"{package}.{kind.__name__}"


def _data(name: str) -> str:
    if ":" in name:
        return "imagefolder:path/to/images"
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
