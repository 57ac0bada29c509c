"""Plans, and thresholds that change between calls."""

import json

import pytest
import torch

import ftwt
from ftwt import gates, runtime
from ftwt.gated.operating_points import OperatingPoint
from tests.runtime_cases import IMAGES, Upside, both, gated, noisy, small


def test_plans_survive_json_and_say_where_each_step_runs(tmp_path):
    model = gated(small())
    fast = runtime.skip(model, calibrate=IMAGES)
    again = runtime.skip(model, plan=json.loads(json.dumps(fast.plan.json())))
    assert again.plan.placed[0].rows == fast.plan.placed[0].rows
    assert torch.equal(again(IMAGES), fast(IMAGES))
    told = runtime.explain(again, batch=3)
    assert [row.step for row in told.rows] == [row.step for row in runtime.explain(fast, 3).rows]
    assert all(row.ms is not None and row.ms >= 0 for row in told.rows)
    macs = sum(row.macs for row in told.rows if row.macs is not None)
    executed = fast.audit(IMAGES).macs.double().mean().item()
    assert abs(macs - executed) < 1e-3
    assert "gate of 0" in str(told)
    assert "batch 3 of 3x8x8" in str(told)
    # What was chosen of the candidates is what runs, and what is slower was not chosen.
    best = told.chosen
    assert best in told.totals
    assert best == "mixed" or {row.backend for row in told.rows} <= {best, "torch"}
    assert best in ("native", min(told.totals, key=lambda name: told.totals[name]))


def test_a_plan_serves_the_nearest_batch_size():
    model = gated(small())
    fast = runtime.skip(model)
    assert "not measured" in str(runtime.explain(fast, 2))
    fast.calibrate(IMAGES[:1])
    fast.calibrate(IMAGES.repeat(8, 1, 1, 1))
    assert [one.batch for one in fast.plan.placed] == [1, 24]
    assert runtime.explain(fast, 2).rows == fast.plan.placed[0].rows
    assert runtime.explain(fast, 20).rows == fast.plan.placed[1].rows
    fast.calibrate(IMAGES[:1])
    assert [one.batch for one in fast.plan.placed] == [24, 1]


def test_plans_are_saved_with_the_model(tmp_path):
    network = ftwt.backbones.resnet8()
    model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32)).eval()
    images = torch.randn(2, 3, 32, 32)
    fast = runtime.skip(model, calibrate=images)
    card = ftwt.Card("cifar10-resnet8", 10, extra={"plan": fast.plan.json()})
    ftwt.save(model, tmp_path / "model.safetensors", card)
    loaded, found = ftwt.load(tmp_path / "model.safetensors")
    again = runtime.skip(loaded, plan=found.extra["plan"])
    assert runtime.explain(again, 2).rows == runtime.explain(fast, 2).rows


@both
def test_thresholds_are_read_at_every_call(backend):
    model = ftwt.attach(noisy(small()), ftwt.Pruning(), example=IMAGES[:1]).eval()
    fast = runtime.skip(model, backend=backend)
    logits = model.trace(IMAGES, targets=False).sites["0"].logits
    gate = model.gates["0"]
    for threshold in (0.0, logits.median().item() + 1e-4, 100.0, -100.0):
        gate.threshold = threshold
        executed = fast.audit(IMAGES).executed["0"]
        if backend != "dense":
            assert torch.equal(executed, (logits > threshold).sum(1) * 27 * 64)
        assert fast(IMAGES).isfinite().all()
    gate.threshold = 100.0
    nothing = fast(IMAGES)
    assert torch.equal(nothing[0], nothing[1])


@pytest.mark.parametrize("estimator", [gates.Hard(), gates.Gumbel(), Upside()])
def test_a_calibrated_model_is_turned_without_preparing_again(estimator):
    pruning = ftwt.Pruning(estimator=estimator)
    model = ftwt.attach(noisy(small()), pruning, example=IMAGES[:1]).eval()
    zero = dict.fromkeys(model.sites, 0.0)
    points = (
        OperatingPoint(0.0, 0.0, 1.0, zero),
        OperatingPoint(1.0, 1.0, 0.0, dict.fromkeys(model.sites, 0.4)),
    )
    model = model.with_thresholds(zero, points)
    fast = runtime.skip(model)
    for reduction in (0.0, 0.5, 0.9):
        with torch.no_grad():
            trace = model.at(reduction=reduction).trace(IMAGES, targets=False)
        turned = fast.at(reduction=reduction)
        assert (turned(IMAGES) - trace.output).abs().max() < 1e-5
        assert torch.equal(turned.audit(IMAGES).counted_macs, trace.macs)
