"""Training for a budget: gates are frozen where they meet it, also in a run that was stopped."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ftwt import budget, data, training
from ftwt.io import storage
from ftwt.training import phases, runs
from ftwt.training.recipes.best import best_dense
from tests import my_parts

ASKED = 0.4
QUIET = runs.Callbacks()


@pytest.fixture(scope="module")
def shapes():
    return data.load("shapes", size=16, limit=600)


@pytest.fixture(scope="module")
def dense(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("budget") / "dense"
    made = training.recipe("shapes-resnet8", training.Overrides(epochs=2), dense=True)
    runs.train_run(replace(made, network=my_parts.network), shapes, out)
    return out


@pytest.fixture(scope="module", params=[None, 0.5], ids=["weights", "average"])
def made(request):
    recipe = training.recipe("shapes-resnet8", training.Overrides(epochs=4))
    settings = replace(recipe.settings, ema=request.param)
    return replace(recipe, network=my_parts.network, settings=settings)


@pytest.fixture(scope="module")
def whole(made, shapes, dense, tmp_path_factory):
    """A run that nothing stopped: its folder and what `train_to` gave."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, train(made, shapes, dense, out)


def train(made, shapes, dense, out, callbacks=QUIET):
    def train_run(recipe, before_phase):
        return runs.train_run(
            recipe, shapes, out, init=dense, resume=out.exists(), checkpoint_every=1,
            before_phase=before_phase, callbacks=callbacks,
        )  # fmt: skip

    return budget.train_to(made, shapes, out, reduction=ASKED, init=dense, train=train_run)


def test_the_backbone_learns_with_the_masks_of_the_budget(whole):
    out, (model, record) = whole
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["gates", "gates", "frozen gates", "frozen gates"]
    seen = [training.Evaluation(**row["validation"]).reduction_exact for row in rows]
    missed = [abs(one - ASKED) for one in seen]
    assert max(missed[2:]) < 0.05 < missed[1]
    assert abs(record["budget"]["trained"]["reduction"] - ASKED) < 0.05
    assert abs(record["budget"]["calibrated"]["measured"] - ASKED) < 0.01
    assert storage.load(out)[0].thresholds == model.thresholds
    assert all(model.thresholds.values())


class Stopped(Exception):
    """As if the process had been killed."""


# Eight batches an epoch; the frozen phase begins with the third epoch.
STOPS = (1, 8), (2, 1), (2, 8), (3, 4)


def test_a_run_that_was_stopped_again_and_again_goes_on_with_its_thresholds(
    made, whole, shapes, dense, tmp_path
):
    out = tmp_path / "run"
    for place in STOPS:

        def stop(event, place=place):
            if (event.epoch, event.batch) == place:
                raise Stopped

        with pytest.raises(Stopped):
            train(made, shapes, dense, out, runs.Callbacks(step=stop))
        assert json.loads((out / "run.json").read_text())["status"] == "running"
    again, _ = train(made, shapes, dense, out)
    model = whole[1][0]
    assert again.thresholds == model.thresholds
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_plain_run_that_was_stopped_again_and_again_keeps_its_teacher(shapes, dense, tmp_path):
    made = replace(best_dense("any", training.Overrides(epochs=2)), network=my_parts.network)

    def trained(out, stop=None):
        def stopping(event):
            if (event.epoch, event.batch) == stop:
                raise Stopped

        return runs.train_run(
            made, shapes, out, init=dense, resume=out.exists(), checkpoint_every=1,
            callbacks=runs.Callbacks(step=stopping),
        )[0]  # fmt: skip

    for stop in ((0, 2), (0, 4), (1, 2)):
        with pytest.raises(Stopped):
            trained(tmp_path / "stopped", stop)
    whole, again = trained(tmp_path / "whole"), trained(tmp_path / "stopped")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    start, kept = storage.load(dense)[0], storage.load(tmp_path / "stopped/dense.safetensors")[0]
    for name, value in start.state_dict().items():
        assert torch.equal(value, kept.state_dict()[name]), name


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_phases_begin_where_another_one_ended(lengths):
    some = tuple(training.Phase(str(place), epochs) for place, epochs in enumerate(lengths))
    names = [phases.phase_at(some, epoch).name for epoch in range(sum(lengths))]
    for epoch, name in enumerate(names):
        assert phases.begins(some, epoch) == (epoch == 0 or names[epoch - 1] != name)
    assert not phases.begins(some, sum(lengths))
