"""The layout: what lies where, who may import whom, and which names are public."""

import ast
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
