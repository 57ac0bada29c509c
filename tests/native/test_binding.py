"""What loading the library checks, and what becomes of it where the library is wanted."""

import os
import subprocess
import sys
from ctypes import Structure
from pathlib import Path

import pytest

from ftwt.runtime import native
from ftwt.runtime.native import binding, structs

built = pytest.mark.skipif(not native.available(), reason="the library is not built")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def _found_again():
    binding._find.cache_clear()
    yield
    binding._find.cache_clear()


@built
def test_the_python_side_knows_every_field_and_number_of_the_library():
    facts, expected = binding.load_library().facts, structs.facts()
    assert native.missing() is None
    assert expected.items() <= facts.items()
    # Beside these only limits, and what a call can answer.
    others = {"MOST_TAPS", "MOST_LANES", "TILE", "POOL_ROW", *binding._FAILURES}
    assert facts.keys() - expected.keys() == others


@built
@pytest.mark.usefixtures("_found_again")
def test_fields_in_another_order_are_seen(monkeypatch):
    first, second, *rest = structs.CWindow._fields_
    swapped = type("CWindow", (Structure,), {"_fields_": [second, first, *rest]})
    monkeypatch.setattr(structs, "CWindow", swapped)
    assert not native.available()
    with_name = r"built from other sources (ftwt_window.kernel differs); install again"
    assert with_name in native.missing()


@built
@pytest.mark.usefixtures("_found_again")
def test_numbers_with_another_meaning_are_seen(monkeypatch):
    monkeypatch.setitem(structs.POOL_CODES, "max", 2)
    assert "POOL_MAX differs" in native.missing()


@pytest.mark.usefixtures("_found_again")
def test_why_there_is_no_library(monkeypatch, tmp_path):
    monkeypatch.setenv(binding.FOLDER, str(tmp_path))
    assert native.missing() == f"{tmp_path / '_kernels.so'} does not exist; no C compiler built it"
    (tmp_path / "_kernels.so").write_text("no library")
    binding._find.cache_clear()
    assert "does not load" in native.missing()


def test_where_kernels_are_wanted_their_tests_are_not_skipped(tmp_path):
    command = [sys.executable, "-m", "pytest", "--collect-only", __file__]
    environment = {**os.environ, binding.FOLDER: str(tmp_path), "FTWT_REQUIRE_NATIVE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "FTWT_REQUIRE_NATIVE is set, and" in done.stderr
    assert "does not exist" in done.stderr
