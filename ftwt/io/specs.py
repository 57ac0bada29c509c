"""Specifications to JSON and back: frozen dataclasses, by the name of their type."""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from ftwt import gates, losses, targets
from ftwt.errors import FtwtError
from ftwt.gated.escalation.policy import Policy
from ftwt.gated.escalation.signals import Confidence, Entropy, Margin, Temperature
from ftwt.gated.operating_points import OperatingPoint
from ftwt.gated.pruning import Pruning
from ftwt.gates.narrowed import Part
from ftwt.io.reading import misfit, misfit_of_fields
from ftwt.io.registry import check_registered, found, name_of, register
from ftwt.losses.interface import Named

for _kind in (
    Pruning, OperatingPoint, Policy, Margin, Confidence, Entropy, Temperature,
    targets.HeatmapMass, targets.TopK, targets.Active, targets.PerSite,
    gates.PooledLinear, gates.Bottleneck, gates.ByCost, gates.Oracle, gates.Fixed, gates.Random,
    gates.Follow,
    gates.Narrowed, Part,
    gates.Hard, gates.StraightThrough, gates.Gumbel,
    losses.Objective, losses.CrossEntropy, losses.GateBCE, losses.Distillation,
    losses.MacBudget, losses.PixelCrossEntropy, losses.MeanSquaredError, losses.ModelLosses, Named,
):  # fmt: skip
    register(_kind)

# What files of earlier versions call a type, and fields of one.
_FORMER_TYPES = {"Knot": "OperatingPoint"}
_FORMER_FIELDS = {"Phase": {"knots": "operating_points"}}
# Keys with a meaning, which a plain mapping must not have.
_MARKS = {"type", "function", "mapping", "instance"}


def to_json(value: Any) -> Any:
    """A specification as plain JSON values; `from_json` gives back an equal one.

    Raises:
        FtwtError: `from_json` could not, as something is not registered or no specification.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [one.name for one in dataclasses.fields(value) if one.init]
        held = {name: to_json(getattr(value, name)) for name in fields}
        return {"type": check_registered(type(value)), **held}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        plain = {key: to_json(item) for key, item in value.items()}
        return plain if not _MARKS & set(plain) else {"mapping": list(map(list, plain.items()))}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, nn.Module):
        return {"instance": name_of(type(value))}
    if inspect.isroutine(value) or isinstance(value, type):
        return {"function": check_registered(value)}
    raise FtwtError(
        f"to_json: {type(value).__name__} is not a specification; use frozen dataclasses of "
        "numbers, strings, tuples and other specifications"
    )


def recorded(value: Any) -> Any:
    """A specification as it stands in a file."""
    return json.loads(json.dumps(to_json(value)))


def rebuildable(value: Any) -> Any:
    """A specification as it stands in a file that is to be loaded.

    Raises:
        FtwtError: it could not be.
    """
    said = recorded(value)
    from_json(said)
    return said


def renewed(held: Any) -> Any:
    """What a file says, with the fields that specifications got since it was written."""
    try:
        return recorded(from_json(held))
    except FtwtError:
        return held


def from_json(value: Any) -> Any:
    """Build a specification from what `to_json` made.

    Raises:
        FtwtError: an unknown type, fields that do not fit it, or values nested too deep.
    """
    try:
        return _from_json(value)
    except RecursionError:
        raise FtwtError("from_json: values are nested too deep; give what to_json made") from None


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "mapping" in value:
        wrong = misfit(value["mapping"], list[tuple[str, Any]], "mapping")
        if wrong is not None:
            raise FtwtError(f"from_json: {wrong}; give what to_json made")
        return {key: _from_json(item) for key, item in value["mapping"]}
    if isinstance(value.get("instance"), str):
        raise FtwtError(
            f"from_json: a network itself, of {value['instance']}, is in no file; give the one "
            "that it was, or a recipe with the function that makes it"
        )
    if isinstance(value.get("function"), str):
        return found(value["function"])
    said = value.get("type")
    if not isinstance(said, str):
        return {key: _from_json(item) for key, item in value.items()}
    name = _FORMER_TYPES.get(said, said)
    former = _FORMER_FIELDS.get(name, {})
    fields = {str(former.get(key, key)): held for key, held in value.items() if key != "type"}
    return _built(name, found(name), fields)


def _built(name: str, kind: Any, held: Mapping[str, Any]) -> Any:
    """A value of a type; functions, which a file could name as well, are not called."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise FtwtError(f"from_json: {name} is no type of values; give what to_json made")
    fields = {key: _from_json(item) for key, item in held.items()}
    # What users annotate may be less exact than what they give.
    own = kind.__module__.partition(".")[0] == "ftwt"
    wrong = misfit_of_fields(kind, fields) if own else None
    if wrong is not None:
        raise FtwtError(f"from_json: {name}: {wrong}; give what to_json made")
    try:
        return kind(**fields)
    except FtwtError:
        raise
    except TypeError as error:
        raise FtwtError(f"from_json: {name} does not take these fields: {error}") from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise FtwtError(f"from_json: {name} refuses its fields ({reason}); correct them") from error
