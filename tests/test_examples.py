"""Every script and notebook of examples/ runs, on few images, and stays short."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent / "examples"
# Those of other kinds of tasks have tests beside what they show.
SCRIPTS = (
    "own_network", "own_loop", "own_gate", "budget_for_each_image", "several_budgets", "fixed_masks"
)  # fmt: skip
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
_LINES, _IMAGES = 60, 200


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run_and_are_short(name, monkeypatch, capsys):
    path = FOLDER / f"{name}.py"
    assert len(path.read_text().splitlines()) <= _LINES
    monkeypatch.setattr(sys, "argv", [str(path), str(_IMAGES)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_of_notebooks_run_one_after_the_other(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), str(_IMAGES)])
    torch.manual_seed(0)
    scope: dict[str, object] = {"__name__": path.stem}
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for number, source in enumerate(code):
        exec(compile(source, f"{path.name}, cell {number}", "exec"), scope)
    assert code
    assert capsys.readouterr().out


def test_the_list_names_every_example():
    listed = (FOLDER / "README.md").read_text()
    for path in [*(FOLDER / f"{name}.py" for name in SCRIPTS), *NOTEBOOKS]:
        assert f"`{path.name}`" in listed
