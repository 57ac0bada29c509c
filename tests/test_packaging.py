import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_package_is_installed():
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "ftwt").rglob("*.py")}
    assert listed == {".".join(folder.parts) for folder in folders} | {"ftwt_cli"}


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
