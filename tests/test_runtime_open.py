"""Back ends of one's own, plans that cannot hurt, and the skipping network as a module."""

import copy
import time
from dataclasses import dataclass, replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from ftwt import runtime
from ftwt.runtime import backends, measure
from ftwt.runtime.backends import dense
from tests.runtime_cases import IMAGES, gated, noisy, small
from tests.small import refused


@pytest.fixture
def mine():
    """A back end that runs everything densely, and waits a while if it is told to."""

    @dataclass(frozen=True)
    class Mine:
        seconds: float = 0.0
        name = "mine"
        fuses = False
        runs_on = None
        dense = True
        whole = False

        def takes(self, step):
            return True

        def prepare(self, steps, writes, batch):
            (step,) = steps

            def run(state):
                time.sleep(self.seconds)
                dense.run_dense(step, state)

            return run

    yield Mine
    backends._KNOWN.pop("mine", None)


def test_a_back_end_of_ones_own_runs_is_measured_and_audited(mine):
    model = gated(small())
    refused("backend='mine' is unknown", runtime.skip, model, backend="mine")
    runtime.register(mine())
    fast = runtime.skip(model, backend="mine")
    assert torch.allclose(fast(IMAGES), model(IMAGES), atol=1e-5)
    assert {row.backend for row in runtime.explain(fast).rows} == {"mine"}
    audit = fast.audit(IMAGES)
    assert audit.differing
    assert set(audit.differing) <= set(audit.dense)
    assert "mine" in runtime.skip(model, calibrate=IMAGES).plan.placed[0].totals


def test_what_is_no_back_end_is_refused_by_what_it_lacks():
    refused(r"no back end \(\['name', 'fuses'", runtime.register, nn.ReLU())


def test_one_wrong_measurement_chooses_nothing(mine, monkeypatch):
    runtime.register(mine(seconds=0.002))
    honest = measure._totals

    def wrong(runners, *rest):
        return {**honest(runners, *rest), "mine": 0.0}

    monkeypatch.setattr(measure, "_totals", wrong)
    fast = runtime.skip(gated(small()), calibrate=IMAGES)
    assert fast.plan.placed[0].chosen == "native"
    assert "mine" not in {row.backend for row in fast.plan.placed[0].rows}


@given(st.lists(st.floats(0.5, 50), min_size=4, max_size=15), st.floats(0.1, 0.9))
def test_a_duel_is_won_by_whoever_is_faster_in_most_rounds(ms, factor):
    faster = [(factor * one, one) for one in ms]
    assert measure.wins(faster)
    assert not measure.wins([(two, one) for one, two in faster])
    assert not measure.wins([(one, one) for one in ms])
    # A margin that is within what measuring varies is none.
    assert not measure.wins([(0.99 * one, one) for one in ms])
    # One disturbed round, either way, decides nothing.
    assert measure.wins([(1e4, 1.0), *faster]) == (len(ms) >= 3)
    assert not measure.wins([(1.0, 1e4), *((one, one) for one in ms)])


def test_a_plan_says_nothing_of_batches_of_quite_another_size():
    fast = runtime.skip(gated(small()), calibrate=IMAGES[:2])
    (placed,) = fast.plan.placed
    shapes = placed.shapes
    assert fast.plan.for_batch(8, shapes) is placed
    assert fast.plan.for_batch(9, shapes) is None
    assert "not measured" in str(runtime.explain(fast, 64))
    moved = replace(placed, batch=64)
    assert fast.plan.with_placed(moved).for_batch(33, shapes) is moved


def test_a_skipping_network_is_a_module_in_a_larger_one():
    model = gated(small())
    fast = runtime.skip(model)
    whole = nn.Sequential(nn.Identity(), fast, nn.Softmax(1)).eval()
    seen = []
    fast.register_forward_hook(lambda *_: seen.append(1))
    wanted = model(IMAGES).softmax(1)
    assert torch.allclose(whole(IMAGES), wanted, atol=1e-5)
    assert seen == [1]
    double = copy.deepcopy(whole).double()
    assert torch.allclose(double(IMAGES.double()).float(), wanted, atol=1e-5)
    assert torch.allclose(whole(IMAGES), wanted, atol=1e-5)
    whole.train()
    refused("training mode", whole, IMAGES)


def test_new_weights_are_prepared_anew():
    model, other = gated(small()), gated(noisy(small()))
    fast = runtime.skip(model)
    fast(IMAGES)
    fast.load_state_dict(runtime.skip(other).state_dict())
    assert torch.allclose(fast(IMAGES), model(IMAGES), atol=1e-5)
    model.double()
    assert torch.allclose(fast(IMAGES.double()), model(IMAGES.double()), atol=1e-8)
