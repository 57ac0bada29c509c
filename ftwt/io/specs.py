"""Specifications to JSON and back: frozen dataclasses, by the name of their type."""

import dataclasses
import json
from typing import Any

from ftwt import gates, losses, targets
from ftwt.errors import FtwtError
from ftwt.gated.dial import Knot
from ftwt.gated.escalation.policy import Policy
from ftwt.gated.escalation.signals import Confidence, Entropy, Margin, Temperature
from ftwt.gated.pruning import Pruning
from ftwt.gates.narrowed import Part
from ftwt.io.registry import name_of, register, registered

for _kind in (
    Pruning, Knot, Policy, Margin, Confidence, Entropy, Temperature,
    targets.HeatmapMass, targets.TopK, targets.Active, targets.PerSite,
    gates.PooledLinear, gates.Bottleneck, gates.ByCost, gates.Oracle, gates.Fixed, gates.Random,
    gates.Narrowed, Part,
    gates.Hard, gates.StraightThrough, gates.Gumbel,
    losses.Objective, losses.CrossEntropy, losses.GateBCE, losses.Distillation,
    losses.MacBudget,
):  # fmt: skip
    register(_kind)


def to_json(value: Any) -> Any:
    """A specification as plain JSON values; `from_json` gives back an equal one."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": name_of(type(value)), **fields}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise FtwtError(
        f"to_json: {type(value).__name__} is not a specification; use frozen dataclasses of "
        "numbers, strings, tuples and other specifications"
    )


def recorded(value: Any) -> Any:
    """A specification as it stands in a file."""
    return json.loads(json.dumps(to_json(value)))


def renewed(found: Any) -> Any:
    """What a file says, with the fields that specifications got since it was written."""
    try:
        return recorded(from_json(found))
    except FtwtError:
        return found


def from_json(value: Any) -> Any:
    """Build a specification from what `to_json` made.

    Raises:
        FtwtError: an unknown type, or fields that do not fit it.
    """
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "type" not in value:
        return {key: from_json(item) for key, item in value.items()}
    known = registered()
    kind = known.get(value["type"])
    if kind is None:
        raise FtwtError(
            f"from_json: unknown type {value['type']!r}; known are {', '.join(sorted(known))}"
        )
    fields = {key: from_json(item) for key, item in value.items() if key != "type"}
    try:
        return kind(**fields)
    except TypeError as error:
        raise FtwtError(f"from_json: {value['type']} does not take these fields: {error}") from None
