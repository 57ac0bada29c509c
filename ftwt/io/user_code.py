"""Code of the user's own that a caller names: a Python file, or a function in a module.

What stands in a saved file is never imported: see `registry`.
"""

import difflib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ftwt.errors import FtwtError
from ftwt.io import registry


def is_file(name: str) -> bool:
    """Whether a name is that of a Python file.

    >>> is_file("my_recipe.py"), is_file("my_module:factory")
    (True, False)
    """
    return name.endswith(".py")


def import_file(path: Path, called: str) -> ModuleType:
    """Run a Python file once, as the module of its name; it can import what lies beside it.

    Raises:
        FtwtError: there is no such file, another module has its name, or it does not run.
    """
    where = path.resolve()
    if not where.is_file():
        raise FtwtError(f"{called}: {path} does not exist; give a Python file")
    name = where.stem
    known = sys.modules.get(name)
    if known is not None and _file_of(known) == where:
        return known
    _see(where.parent)
    found = importlib.util.find_spec(name) if known is None and name.isidentifier() else None
    if known is not None or found is None or Path(found.origin or "").resolve() != where:
        if known is not None or found is not None:
            raise FtwtError(
                f"{called}: {path} has the name of another module, {name}; rename the file"
            )
        found = importlib.util.spec_from_file_location(name, where)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise FtwtError(f"{called}: {path} {_failure(error, where)}") from None
    return module


def import_factory(name: str) -> Any:
    """Import the function that `module:function` names, and register it.

    Modules are looked for in the current folder, too.

    Raises:
        FtwtError: there is no such module or function, or it does not run.
    """
    module, _, own = name.partition(":")
    _see(Path.cwd())
    try:
        held = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name in (
            module, module.partition(".")[0],
        )  # fmt: skip
        if missing:
            near = difflib.get_close_matches(module, ("torchvision", "timm"), n=1)
            guess = f"did you mean {near[0]}:{own}? Else " if near else ""
            raise FtwtError(
                f"networks: there is no module {module!r} for {name!r}; {guess}call from the "
                f"folder that holds {module}.py, or install it"
            ) from None
        raise FtwtError(f"networks: {module} {_failure(error, None)}") from None
    factory = getattr(held, own, None)
    if factory is None:
        raise FtwtError(
            f"networks: {module} has no {own!r}; give module:function, the function that makes "
            "the network"
        )
    return registry.register(factory)


def known_network(name: str) -> str:
    """The name under which a network can be built, after importing what it names.

    `my_module:factory` is imported and registered; other names are given back as they are.

    Raises:
        FtwtError: there is no such module or function.
    """
    if not registry.is_qualified(name) or name in registry.registered():
        return name
    return registry.name_of(import_factory(name))


def _see(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _failure(error: BaseException, file: Path | None) -> str:
    """What went wrong, and in which line of the file, in one line."""
    if isinstance(error, SyntaxError):
        return f"is no Python: line {error.lineno}: {error.msg}"
    lines = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if file is not None and Path(frame.f_code.co_filename).resolve() == file
    ]
    at = f" in line {lines[-1]}" if lines else ""
    said = " ".join(str(error).split())
    kind = "" if isinstance(error, FtwtError) else f"{type(error).__name__}: "
    return f"fails{at}: {kind}{said}"
