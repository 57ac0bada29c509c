"""Full disks and second processes: told in one line, and what was there before stays."""

import json
import resource
from contextlib import contextmanager

import pytest

import ftwt
from ftwt.budget.sweep import run_sweep
from ftwt.io.files import write_atomically
from ftwt.reports.analysis.slimming import _appearing
from ftwt.training.folders import claimed
from tests.faults.kinds import MASS, SWEEP, gated, saved, sweep_folder


@contextmanager
def full_disk():
    """The system refuses to write more than a few bytes into a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def swept(tmp_path):
    return sweep_folder(tmp_path)


def test_a_sweep_on_a_full_disk_keeps_its_record(swept):
    before = (swept / "sweep.json").read_text()
    with (
        full_disk(),
        pytest.raises(ftwt.FtwtError, match=r"cannot write to .*sweep\.json \(File too large\)"),
    ):
        run_sweep(SWEEP, swept, [MASS], seeds=2)
    assert (swept / "sweep.json").read_text() == before
    assert not list(swept.glob(".*.partial"))


def test_a_model_on_a_full_disk_is_told_and_not_there(tmp_path):
    with full_disk(), pytest.raises(ftwt.FtwtError, match=r"cannot write to .*model\.safetensors"):
        saved(gated(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_sweep_is_refused_and_the_first_unharmed(swept):
    before = json.loads((swept / "sweep.json").read_text())
    with (
        claimed(swept, "sweep"),
        pytest.raises(ftwt.FtwtError, match=r"sweep: another process is running a sweep in .*"),
    ):
        run_sweep(SWEEP, swept, [MASS], seeds=2)
    assert json.loads((swept / "sweep.json").read_text()) == before
    assert run_sweep(SWEEP, swept, [MASS], seeds=2) == before


def test_a_folder_that_was_killed_half_written_is_made_anew(tmp_path):
    out = tmp_path / "slim"
    half = tmp_path / ".slim.partial"
    half.mkdir()
    (half / "model.safetensors").write_text("half")
    with _appearing(out) as folder:
        assert not list(folder.iterdir())
        assert not out.exists()
        write_atomically(folder / "slim.json", b"{}")
    assert [path.name for path in out.iterdir()] == ["slim.json"]
    assert not half.exists()


def test_a_file_where_a_folder_is_wanted_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ftwt.FtwtError, match=r"cannot write to .*\(Not a directory\)"):
        write_atomically(tmp_path / "file" / "record.json", b"{}")
