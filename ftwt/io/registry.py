"""What can be built from a file: components by name, and how a model is finished.

Nothing is imported from a file's text: a name means what was registered under it before. Packages
that stand below `io` enter their own types here, so that `io` imports nothing of theirs.
"""

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ftwt.errors import FtwtError, in_one_line

_Component = TypeVar("_Component", bound=Callable[..., Any])
_COMPONENTS: dict[str, Callable[..., Any]] = {}
_Build = Callable[..., nn.Module]
_NETWORKS: list[_Build] = []
_FINISH: dict[type, Callable[[Any, Any], Any]] = {}


def register(component: _Component) -> _Component:
    """Make a component of your own savable, loadable and known by name; use it as a decorator.

    A component is a frozen dataclass (a gate, target, loss, estimator, optimizer, schedule), a
    function (a network's factory, a loss), or a class of networks. Its name is its module's and its
    own, `my_parts:Embedded`; a process that loads a file which names it has to import that module
    first.

    Raises:
        FtwtError: it is none of these, has no name of its own, or another one has its name.

    Example:
        >>> import dataclasses
        >>> @register
        ... @dataclasses.dataclass(frozen=True)
        ... class Nothing:
        ...     def keep(self, features):
        ...         return features.new_ones(features.shape[:2], dtype=bool)
    """
    _check(component)
    name = name_of(component)
    held = _COMPONENTS.get(name)
    if held is not None and held is not component and not _written_again(component):
        raise FtwtError(
            f"register: {name} is another {_what(held)} already; give one of the two another name"
        )
    _COMPONENTS[name] = component
    return component


def name_of(component: Any) -> str:
    """How a file calls a type or function: ftwt's own by bare names, others with their module.

    What a script defines is named by its file, `train:MyGate`, as a process that imports it would.
    """
    module = _module_of(component)
    own = module.partition(".")[0] == "ftwt"
    return component.__qualname__ if own else f"{module}:{component.__qualname__}"


def registered() -> dict[str, Callable[..., Any]]:
    """All that can be built from a file, by name."""
    return dict(_COMPONENTS)


def is_qualified(name: str) -> bool:
    """Whether a name is one that was registered by `ftwt.register`, outside of ftwt.

    >>> is_qualified("my_nets:small"), is_qualified("timm:resnet18")
    (True, False)
    """
    module, colon, _ = name.partition(":")
    return bool(colon) and module not in ("torchvision", "timm")


def found(name: str, called: str = "load") -> Callable[..., Any]:
    """What is registered under a name.

    Raises:
        FtwtError: nothing is; says what to import.
    """
    if name in _COMPONENTS:
        return _COMPONENTS[name]
    module, colon, own = name.partition(":")
    if not colon:
        known = sorted(one for one in _COMPONENTS if ":" not in one)
        raise FtwtError(f"from_json: unknown type {name!r}; known are {', '.join(known)}")
    if module == "__main__":
        mend = f"define {own} here, as in the notebook that saved it, with @ftwt.register"
    elif module in sys.modules:
        mend = f"{module} is imported and registers no {own}; put @ftwt.register above it there"
    else:
        mend = f"import {module}, which registers it, first"
    raise FtwtError(f"{called}: {name!r} is not registered in this process; {mend}")


def check_registered(component: Any) -> str:
    """The name under which a file can have a type or function built again.

    Raises:
        FtwtError: `load` could not do that.
    """
    name = getattr(component, "__qualname__", None)
    if name is None or _COMPONENTS.get(name_of(component)) is not component:
        _check(component)
        raise FtwtError(
            f"save: {name_of(component)} is not registered, so load could not build it; put "
            "@ftwt.register above its definition"
        )
    return name_of(component)


def networks_by(build: _Build) -> _Build:
    """Let `build(name, num_classes=)` make the networks that files name."""
    _NETWORKS[:] = [build]
    return build


def build_network(name: str, num_classes: int) -> nn.Module:
    """The plain network of that name, with random weights."""
    if is_qualified(name):
        return made_by(found(name), num_classes)
    return _NETWORKS[0](name, num_classes=num_classes)


def made_by(factory: Callable[..., Any], num_classes: int | None) -> nn.Module:
    """The network that a factory makes; it is given `num_classes` if it takes that.

    Raises:
        FtwtError: it makes something else, or needs other arguments.
    """
    name = getattr(factory, "__qualname__", repr(factory))
    takes = inspect.signature(factory).parameters.values()
    asked = any(one.name == "num_classes" or one.kind is one.VAR_KEYWORD for one in takes)
    given = {"num_classes": num_classes} if asked and num_classes is not None else {}
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise FtwtError(
            f"networks: {name} cannot be called with {given or 'nothing'} ({error}); let it take "
            "num_classes alone, or nothing"
        ) from None
    try:
        network = factory(**given)
    except FtwtError:
        raise
    except Exception as error:
        # The user's own code, or that of another library, raises what it likes.
        raise FtwtError(f"networks: {name} fails: {in_one_line(error)}; mend it") from error
    if not isinstance(network, nn.Module):
        raise FtwtError(
            f"networks: {name} makes a {type(network).__name__}; let it return a torch.nn.Module"
        )
    return network


def finished_by(gate: type, finish: Callable[[Any, Any], Any]) -> None:
    """Let models whose gate is a `gate` be attached with every filter on, then finished.

    `finish(model, pruning)` returns the model that was saved.
    """
    _FINISH[gate] = finish


def finisher(gate: object) -> Callable[[Any, Any], Any] | None:
    """How a model with this gate is finished, if it needs it."""
    return _FINISH.get(type(gate))


def _check(component: Any) -> None:
    """Refuse what a name in a file could never lead to."""
    came = getattr(component, "__qualname__", None)
    module = isinstance(component, type) and issubclass(component, nn.Module)
    value = isinstance(component, type) and dataclasses.is_dataclass(component)
    if came is None or not (module or value or inspect.isfunction(component)):
        came = came or repr(component)
        raise FtwtError(
            f"register: {came} cannot be built from a file; give a frozen dataclass "
            "(@ftwt.register above @dataclass(frozen=True)), a function, or a class of networks"
        )
    if "<lambda>" in came or "<locals>" in came:
        raise FtwtError(
            f"register: {came} is {'a lambda' if '<lambda>' in came else 'defined in a function'}, "
            "which no other process could find; define it by name at the top of a module, with "
            "@ftwt.register"
        )
    if value and not module and not component.__dataclass_params__.frozen:
        raise FtwtError(f"register: {came} can change; make it a @dataclass(frozen=True)")


def _module_of(component: Any) -> str:
    module = str(component.__module__)
    if module not in ("__main__", "__mp_main__"):
        return module
    main = sys.modules[module]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return Path(file).stem if file else "__main__"


def _written_again(component: Any) -> bool:
    """Whether a definition is run once more: a notebook's cell, or a module that is reloaded."""
    return name_of(component).startswith("__main__:") or component.__module__ in getattr(
        importlib, "_RELOADING", ()
    )


def _what(component: Any) -> str:
    return "class" if isinstance(component, type) else "function"
