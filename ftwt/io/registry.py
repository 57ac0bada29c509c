"""What can be built from a file: types by name, networks by name, and how a model is finished.

Packages that stand below `io` enter their types and functions here, so that nothing is imported
from a file's text and `io` imports nothing of theirs.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from ftwt.errors import FtwtError

_Type = TypeVar("_Type", bound=type)
_TYPES: dict[str, type] = {}
_Build = Callable[..., nn.Module]
_NETWORKS: list[_Build] = []
_FINISH: dict[type, Callable[[Any, Any], Any]] = {}


def register(kind: _Type) -> _Type:
    """Let a frozen dataclass be saved and loaded; use it as a decorator.

    Raises:
        FtwtError: another type has its name already.
    """
    name = name_of(kind)
    held = _TYPES.setdefault(name, kind)
    if held is not kind and (held.__module__, held.__qualname__) != (
        kind.__module__,
        kind.__qualname__,
    ):
        raise FtwtError(
            f"register: {kind.__module__}.{kind.__qualname__} would replace "
            f"{held.__module__}.{held.__qualname__}; give it another name"
        )
    _TYPES[name] = kind
    return kind


def name_of(kind: type) -> str:
    """How a type is called in a file: ftwt's own by their bare names, others with their module."""
    own = kind.__module__.partition(".")[0] == "ftwt"
    return kind.__qualname__ if own else f"{kind.__module__}:{kind.__qualname__}"


def registered() -> dict[str, type]:
    """All types that can be built from a file, by name."""
    return dict(_TYPES)


def networks_by(build: _Build) -> _Build:
    """Let `build(name, num_classes=)` make the networks that files name."""
    _NETWORKS[:] = [build]
    return build


def build_network(name: str, num_classes: int) -> nn.Module:
    """The plain network of that name, with random weights."""
    return _NETWORKS[0](name, num_classes=num_classes)


def finished_by(gate: type, finish: Callable[[Any, Any], Any]) -> None:
    """Let models whose gate is a `gate` be attached with every filter on, then finished.

    `finish(model, pruning)` returns the model that was saved.
    """
    _FINISH[gate] = finish


def finisher(gate: object) -> Callable[[Any, Any], Any] | None:
    """How a model with this gate is finished, if it needs it."""
    return _FINISH.get(type(gate))
