"""Killed processes: a small sample of `make faults`."""

import os

import pytest

from tests.faults.kills import WORKS, killed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_what_was_killed_goes_on_to_the_same_end(work, tmp_path):
    found = killed(work, tmp_path, 2)
    assert found["same"] == 1
    assert found["other"] == 0
