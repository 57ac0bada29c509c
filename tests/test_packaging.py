import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_package_is_installed():
    # setup.py finds packages by this file.
    folders = {path.parent for path in (ROOT / "ftwt").rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()


def test_every_requirement_of_the_environment_is_pinned():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = pyproject["optional-dependencies"]
    wanted = [*pyproject["dependencies"], *extras["test"], *extras["dev"], *extras["plots"]]
    pinned = {
        line.partition("==")[0].replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert {requirement.partition(">=")[0] for requirement in wanted} <= pinned
