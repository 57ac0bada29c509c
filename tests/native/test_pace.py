"""Which calls one thread does alone, and that nobody sees it in what comes out."""

import ctypes

import pytest
import torch

from ftwt.runtime import native
from ftwt.runtime.native import binding
from tests.native.strategies import Case, working
from tests.native.test_segment import residual

pytestmark = pytest.mark.skipif(not native.available(), reason="the library is not built")


class Pace:
    """A program that takes so many nanoseconds, by way; whether a call was for one thread alone."""

    def __init__(self) -> None:
        library = binding.load_library()
        assert library is not None
        self._calls = library.calls
        self._room = ctypes.create_string_buffer(256)

    def run(self, calls: int, *, together: int, alone: int) -> list[bool]:
        """What was chosen for each call."""
        chosen = []
        for _ in range(calls):
            chosen.append(bool(self._calls.ftwt_alone(self._room)))
            self._calls.ftwt_took(self._room, ctypes.c_int64(alone if chosen[-1] else together))
        return chosen


def test_the_faster_way_is_found_again_whenever_that_changes():
    pace = Pace()
    assert sum(pace.run(5000, together=600, alone=900)) <= 50
    assert sum(pace.run(1000, together=1400, alone=900)[500:]) >= 490
    assert sum(pace.run(2500, together=600, alone=900)[1500:]) <= 10


def test_ways_that_take_about_as_long_are_tried_ever_less_often():
    pace = Pace()
    pace.run(20000, together=1000, alone=970)
    assert 0 < sum(pace.run(10000, together=1000, alone=970)) <= 50


def test_long_programs_are_for_all_threads():
    assert not any(Pace().run(1000, together=10**8, alone=10**7))


def test_outputs_are_the_same_bits_whoever_computes():
    case = Case(0, 1)
    steps, outputs = residual(case)
    with working(2):
        segment = native.Segment(steps, list(case.given), outputs, 1)
        first, masks = segment.run(case.given, {})
        # Both ways are tried in these.
        for _ in range(30):
            made, again = segment.run(case.given, {})
            assert all(torch.equal(made[value], first[value]) for value in outputs)
            assert all(torch.equal(again[site], masks[site]) for site in masks)
