"""One small report, made by the command line, for all tests of it."""

import json
import sys

import pytest
from ftwt_cli.app import main

from ftwt import data
from ftwt.data import shapes
from ftwt.reports.paper import (
    ITEMS,
    Study,
    read_runs,
    scale,
)
from tests.paper.reports import MAIN, arguments


@pytest.fixture(scope="package", autouse=True)
def _figures():
    """Ten thousand figures are drawn once, not by each command."""
    drawn, draw = {}, shapes._draw

    def once(generator, size):
        key = size, str(generator.bit_generator.state)
        if key not in drawn:
            drawn[key] = draw(generator, size)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "_draw", once)
        yield


@pytest.fixture(scope="package")
def report(tmp_path_factory):
    """The folder of the whole report, made by the command line."""
    out = tmp_path_factory.mktemp("paper") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ftwt", *arguments("all", out)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    return out


@pytest.fixture(scope="package")
def dataset():
    return data.load("shapes")


@pytest.fixture(scope="package")
def study(report, dataset):
    """The same runs, given."""
    folders = sorted((report / "runs").iterdir(), key=lambda folder: folder.name != MAIN)
    return Study(report, dataset, scale("tiny", "shapes"), read_runs(folders))


@pytest.fixture(scope="package")
def values(report):
    return {item.name: json.loads((report / f"{item.name}.json").read_text()) for item in ITEMS}
