"""Running the command line as a user does, in this process."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from ftwt_cli.app import main
from PIL import Image

from ftwt import backbones
from ftwt.io import registry


@dataclass
class Answer:
    status: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        assert self.status == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def ftwt_command(monkeypatch, capsys):
    """Call the command line with arguments; returns exit status, standard output and error."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["ftwt", *map(str, arguments)])
        # Wide, so that a message stays one line.
        monkeypatch.setenv("COLUMNS", "1000")
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    return call


def make_folder(root: Path, *, classes: int = 2, images: int = 20) -> Path:
    """An image folder of tiny PNG files, whose classes differ in brightness."""
    for split in ("train", "test"):
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(images):
                level = 40 + 170 * label // max(1, classes - 1) + number % 7
                Image.new("RGB", (32, 32), (level, number * 5 % 256, level // 2)).save(
                    folder / f"{number:03}.png"
                )
    return root


def make_weights(root: Path) -> Path:
    """Untrained weights of a ResNet-8 for two classes."""
    torch.manual_seed(0)
    path = root / "start.safetensors"
    safetensors.torch.save_file(backbones.resnet8(2).state_dict(), path)
    return path


@pytest.fixture
def recipe_file(tmp_path, monkeypatch):
    """Writes a file of recipes by module name and text, in a process that has imported none."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "_COMPONENTS", registry.registered())
    written = []

    def write(name: str, text: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        written.append(name)
        return path

    yield write
    for name in written:
        sys.modules.pop(name, None)
