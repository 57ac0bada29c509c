"""The layout: what lies where, who may import whom, and which names are public."""

import ast
import importlib
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

import ftwt

ROOT = Path(ftwt.__file__).parent
# Each row imports only from the rows above it; packages of one row do not import each other,
# except that slicing emits what the runtime's programs say.
ROWS = (
    ("errors",),
    ("tables",),
    ("graph",),
    ("gates", "targets", "losses"),
    ("macs",),
    ("gated",),
    ("io",),
    ("runtime",),
    ("slicing",),
    ("export",),
    ("backbones",),
    ("data",),
    ("training",),
    ("budget",),
    ("reports",),
)
PACKAGES = tuple(chain.from_iterable(ROWS))


def imports() -> dict[str, set[str]]:
    """Modules of ftwt and the modules of ftwt that they import, for typing too."""
    modules = {module_name(path): path for path in ROOT.rglob("*.py")}
    return {name: set(imported(path, name, modules)) for name, path in modules.items()}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path, own, modules):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            for one in node.names:
                module = f"{node.module}.{one.name}"
                names.append(module if module in modules else str(node.module))
        for name in names:
            if name.partition(".")[0] == "ftwt" and name != own:
                assert name in modules, f"{path} imports {name}, which is no module"
                yield name


def test_only_packages_lie_at_the_top():
    names = {path.name for path in ROOT.iterdir() if path.name != "__pycache__"}
    assert names == {"__init__.py", "py.typed", "errors.py", *PACKAGES[1:]}


def test_each_package_imports_only_what_stands_above_it():
    rank = {package: i for i, row in enumerate(ROWS) for package in row}
    wrong = []
    for module, found in imports().items():
        package = module.split(".")[1] if "." in module else None
        for other in found:
            above = other.split(".")[1] if "." in other else None
            if package is None or package == above:
                continue
            if above is None or rank[above] >= rank[package]:
                wrong.append(f"{module} imports {other}")
    assert not wrong


def test_no_circle_of_files():
    graph = {name: found for name, found in imports().items() if name != "ftwt"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"files import each other in a circle: {' -> '.join(error.args[1])}")


def test_dir_shows_the_public_names_alone():
    assert set(dir(ftwt)) == {*ftwt.__all__, "__version__"}
    assert all(hasattr(ftwt, name) for name in ftwt.__all__)


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_each_package_says_what_it_is_for(package):
    said = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
    assert said is not None
    assert len(said.splitlines()) >= 3, "say what it is for and what it may import"


# Verbs that are always said with what they are of: `ftwt.load` a model, `data.load` a data set;
# `ftwt.register` a component, `runtime.register` a back end.
SAID_WITH_THEIR_PACKAGE = {"load", "register"}
# What each module of the paper's figures and tables is found by.
PLUG_INS = {"ITEM"}


def defined(path):
    """Names of the types, functions and values that a file makes at its top."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name


def test_no_public_name_stands_for_two_things():
    where = {}
    for path in sorted(ROOT.rglob("*.py")):
        for name in defined(path):
            if not name.startswith("_"):
                where.setdefault(name, set()).add(module_name(path))
    twice = {name: sorted(modules) for name, modules in where.items() if len(modules) > 1}
    assert set(twice) <= SAID_WITH_THEIR_PACKAGE | PLUG_INS, twice


def test_packages_publish_no_name_for_two_things():
    published = {}
    for path in sorted(ROOT.rglob("__init__.py")):
        package = importlib.import_module(module_name(path))
        for name in getattr(package, "__all__", ()):
            published.setdefault(name, {})[id(getattr(package, name))] = package.__name__
    twice = {name: list(of.values()) for name, of in published.items() if len(of) > 1}
    assert set(twice) <= SAID_WITH_THEIR_PACKAGE, twice
