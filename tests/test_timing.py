"""Timing: gates of a given share, the bound, and what `ftwt bench` reports."""

import subprocess
import sys
import time

import pytest
import torch
from ftwt_cli.bench import Gates, _untrained
from torch import nn

import ftwt
from ftwt import FtwtError, gates
from ftwt.data import shapes
from ftwt.graph.live import Evaluator
from ftwt.reports.timing import (
    bench,
    engines,
    measure,
    randomize_gates,
    randomize_to_reduction,
    subjects,
)
from ftwt.reports.timing.calibration import measured_reduction
from ftwt.reports.timing.measure import Timing, interleave, latency, paired_speedup
from ftwt.runtime import native
from ftwt.slicing import narrow
from tests.small import refused


def images(count: int) -> torch.Tensor:
    return shapes.render_shapes(count, 3).pixels.float() / 128 - 1


def untrained(name: str = "cifar10-resnet8", gate=gates.PooledLinear()):  # noqa: B008
    torch.manual_seed(0)
    network = ftwt.networks.build(name)
    return network, ftwt.attach(network, ftwt.Pruning(gate), example=torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("fraction", [0.25, 0.6, 1.0])
@pytest.mark.parametrize("gate", [gates.PooledLinear(), gates.Bottleneck(4)], ids=repr)
def test_gates_keep_the_share_that_was_asked_of_images_not_seen(fraction, gate):
    _, model = untrained(gate=gate)
    randomize_gates(model, images(256), fraction)
    with torch.no_grad():
        masks = model.trace(images(352)[256:], targets=False).masks
    share = torch.cat(list(masks.values()), 1).float()
    assert share.mean().item() == pytest.approx(fraction, abs=0.05)
    if fraction < 1:
        depends = (share.mean(0) > 0) & (share.mean(0) < 1)
        assert depends.float().mean() > 0.9
    else:
        assert share.all()


def test_a_calibrated_deep_network_stays_finite_and_alive():
    _, model = untrained("cifar10-vgg16_bn")
    randomize_gates(model, images(16), 0.5)
    with torch.no_grad():
        output = model(images(24)[16:])
    assert output.isfinite().all()
    assert (output.std(0) > 1e-3).all()


@pytest.mark.parametrize("reduction", [0.3, 0.6])
def test_a_reduction_is_met_gates_counted(reduction):
    _, model = untrained("cifar10-resnet20")
    fraction = randomize_to_reduction(model, images(64), reduction)
    assert 0 < fraction < 1
    assert measured_reduction(model, images(96)[64:]) == pytest.approx(reduction, abs=0.03)


def test_what_cannot_be_calibrated_is_refused():
    _, model = untrained()
    refused(r"fraction=0 is outside \(0, 1\]", randomize_gates, model, images(2), 0)
    refused(r"reduction=1\.5 is outside", randomize_to_reduction, model, images(2), 1.5)
    with pytest.raises(FtwtError, match="reduction of 0% is out of reach"):
        randomize_to_reduction(untrained("cifar10-mobilenet_v1-x0.25")[1], images(8), 0.0)
    with pytest.raises(FtwtError, match="Random has no linear layer with a bias"):
        randomize_gates(untrained(gate=gates.Random(0.5))[1], images(2), 0.5)


@pytest.mark.parametrize("name", ["cifar10-resnet20", "cifar10-mobilenet_v1-x0.25"])
def test_the_bound_has_as_many_channels_in_each_layer(name):
    _, model = untrained(name)
    randomize_gates(model.eval(), images(32), 0.5)
    fresh = images(40)[32:]
    network, macs = subjects.bound(model, fresh)
    trace = model.trace(fresh, targets=False)
    typical = int((trace.macs == macs).nonzero()[0])
    assert (trace.macs - trace.macs.double().mean()).abs().argmin() == typical
    masks = {name: mask[typical] for name, mask in trace.masks.items()}
    chosen = subjects.nested(model, masks)
    assert {name: int(mask.sum()) for name, mask in chosen.items()} == {
        name: int(mask.sum()) for name, mask in masks.items()
    }
    made = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for conv, site in zip(made, model.anatomy.sites, strict=True):
        kept = int(masks[site.name].sum())
        # More depthwise filters than inputs: the others are constants, and no part of it.
        fewer = site.module.groups > 1 and conv.out_channels <= kept
        assert fewer or conv.out_channels == kept
    fixed = ftwt.attach(
        ftwt.networks.build(name), ftwt.Pruning(gates.Fixed(chosen)), example=fresh[:1]
    ).eval()
    fixed.load_state_dict(
        {key: one for key, one in model.state_dict().items() if not key.startswith("gates.")}
    )
    with torch.no_grad():
        assert torch.allclose(network(fresh), fixed(fresh), rtol=1e-3, atol=1e-3)


def test_depthwise_filters_of_the_bound_have_inputs():
    _, model = untrained("cifar10-mobilenet_v1-x0.25")
    randomize_gates(model.eval(), images(32), 0.5)
    trace = model.trace(images(1), targets=False)
    masks = subjects.nested(model, {name: mask[0] for name, mask in trace.masks.items()})
    rows = {name: mask[None] for name, mask in masks.items()}
    live = Evaluator(rows, next(iter(rows.values())))
    for site in model.anatomy.sites:
        if site.name.endswith("conv1") and site.name != "conv1":
            given = live(model.anatomy.liveness.channels(site.convolution.args[0]))[0]
            mask = masks[site.name]
            assert int((mask & given).sum()) == min(int(mask.sum()), int(given.sum()))


def quiet(shares):
    """Stands for what other programs used in each round that is taken."""
    left = list(shares)

    class Others:
        def share(self):
            return left.pop(0)

    return Others


def test_disturbed_rounds_are_taken_again_and_the_quieter_counts(monkeypatch):
    seen = []
    batches = [torch.tensor([one]) for one in (1, 2, 3)]
    subject = {"one": lambda batch: seen.append(int(batch[0])) or time.sleep(0.04)}
    monkeypatch.setattr(measure, "Others", quiet([0.0, 0.5, 0.01, 0.015]))
    times, others, disturbed = interleave(subject, batches, 3)
    changes = [one for one, before in zip(seen, [None, *seen], strict=False) if one != before]
    assert changes == [1, 2, 3, 2]
    assert len(times["one"].rounds) == 3
    assert (others, disturbed) == (pytest.approx(0.025 / 3), 0)
    # As many rounds again, and no more; what was worse does not count.
    monkeypatch.setattr(measure, "Others", quiet([0.3, 0.4, 0.2, 0.5, 0.1, 0.6]))
    _, others, disturbed = interleave(subject, batches, 3)
    assert (others, disturbed) == (pytest.approx(0.2), 3)
    monkeypatch.setattr(measure, "Others", quiet([None] * 3))
    assert interleave(subject, batches, 3)[1:] == (None, 0)


def test_rounds_are_interleaved_and_compared_within_a_round(monkeypatch):
    order = []

    def subject(name, seconds):
        def run(batch):
            order.append((name, int(batch[0])))
            time.sleep(seconds)

        return run

    batches = [torch.tensor([1]), torch.tensor([2])]
    monkeypatch.setattr(measure, "Others", quiet([0.0] * 4))
    slow_and_fast = {"slow": subject("slow", 0.04), "fast": subject("fast", 0.01)}
    times, others, disturbed = interleave(slow_and_fast, batches, 4)
    assert (others, disturbed) == (0, 0)
    assert 40 <= times["slow"].low <= times["slow"].ms <= times["slow"].high
    assert len(times["fast"].rounds) == 4
    assert paired_speedup(times["slow"], times["fast"]) == pytest.approx(4, rel=0.4)
    changes = [one for one, before in zip(order, [None, *order], strict=False) if one != before]
    # Warming up, then each round with another first, on the batches in turn.
    assert changes == [
        ("slow", 1), ("fast", 1),
        ("slow", 1), ("fast", 1), ("fast", 2), ("slow", 2),
        ("slow", 1), ("fast", 1), ("fast", 2), ("slow", 2),
    ]  # fmt: skip


def test_engines_answer_what_torch_answers():
    pytest.importorskip("onnx")
    network, _ = untrained()
    batch = images(3)
    found, missing = engines.deployed(network.eval(), batch)
    assert not missing
    with torch.inference_mode():
        for run in found.values():
            first, second = run(batch), run(batch.flip(0))
            assert torch.allclose(first, network(batch), atol=1e-4)
            assert torch.allclose(second, network(batch.flip(0)), atol=1e-4)


@pytest.mark.parametrize(
    ("module", "names"),
    [("onnx", ["onnxruntime", "openvino"]), ("onnxruntime", ["onnxruntime"])],
)
def test_an_engine_that_is_not_installed_is_said_in_one_line(monkeypatch, module, names):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, module, None)
    found, missing = engines.deployed(untrained()[0].eval(), images(1))
    assert list(missing) == names
    assert not found.keys() & missing.keys()
    for why in missing.values():
        assert why == f"{module} is not installed: pip install 'ftwt[engines]'"


SIGNALLED = """
import faulthandler, gc, signal, subprocess
import torch
from ftwt.export import engines, exporting
faulthandler.enable()
signal.signal(signal.SIGCHLD, lambda *_: None)
images = torch.zeros(1, 3, 8, 8)
exported = exporting.onnx_of(torch.nn.Conv2d(3, 4, 3).eval(), (images,), any_batch=False)
one, two = (engines.ENGINES["openvino"](exported, 1) for _ in range(2))
del one
del two
gc.collect()
subprocess.run(["true"])
"""


def test_a_process_that_timed_engines_outlives_the_end_of_a_child():
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_engine_that_answers_something_else_gets_no_row(monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(engines, "ENGINES", {"other": lambda *_: lambda batch: torch.ones(1, 10)})
    found, missing = engines.deployed(untrained()[0].eval(), images(1))
    assert (found, missing) == ({}, {"other": "answers something else than torch"})


@pytest.fixture
def no_compiler(monkeypatch):
    def refuse(*_, **__):
        def fail(*_):
            raise RuntimeError("no C++ compiler\nmore")

        return fail

    monkeypatch.setattr(torch, "compile", refuse)


@pytest.mark.usefixtures("no_compiler")
def test_forms_of_one_network_agree():
    network, model = untrained()
    randomize_gates(model.eval(), images(16), 0.5)
    batch = images(20)[16:]
    dense = subjects.dense(network, model, batch)
    with torch.inference_mode():
        first, *answers = (run(batch) for run in dense.runs.values())
        assert len(answers) >= 1
        for answer in answers:
            assert torch.allclose(first, answer, atol=1e-4)
        masked = model(batch)
        for run in subjects.skipping(model, batch).runs.values():
            assert torch.allclose(run(batch), masked, atol=1e-4)
        cut, _ = subjects.bound(model, batch)
        bounds = subjects.bounds(cut, batch)
        assert subjects.BOUND in bounds.runs
        for run in bounds.runs.values():
            assert torch.allclose(run(batch), cut(batch), atol=1e-4)
    assert "no C++ compiler" in dense.missing[subjects.COMPILED]
    refused("batch=5 with 4 images", bench, network, model, batch, batch=5)


@pytest.mark.usefixtures("no_compiler")
def test_the_command(ftwt_command):
    command = ["bench", "cifar10-resnet8", "--reduction", 0.4, "--repeats", 2, "--batch", 2]
    value = ftwt_command(*command, "--json").json()
    rows = {row["name"]: row for row in value["rows"]}
    assert {"dense, eager", "dense, folded", "masked", "skip, torch", "sliced bound"} <= set(rows)
    assert all(row["low"] <= row["ms"] <= row["high"] for row in rows.values())
    assert rows[value["best_dense"]]["speedup"] == 1
    assert value["reduction_exact"] == pytest.approx(0.4, abs=0.1)
    assert value["mac_ratio"] == pytest.approx(1 / (1 - value["reduction_exact"]))
    assert value["share_of_bound"] > 0
    assert value["over_best_bound"] > 0
    assert value["best_dense"] in subjects.DENSE
    assert value["best_bound"] in subjects.BOUNDS
    assert 0 <= value["disturbed"] <= 2
    if native.available():
        assert value["engine_alone"] > 0
        assert value["skipping_adds"] > 0
        rows = [row for row in value["layers"] if row["share_of_peak"] is not None]
        assert {"conv1", "fc"} <= {row["step"] for row in rows}
        for row in rows:
            assert row["gmacs"] == pytest.approx(2 * row["macs"] / row["ms"] / 1e6)
            assert row["share_of_peak"] == pytest.approx(row["gmacs"] / value["peak_gmacs"])
    assert value["others"] is None or 0 <= value["others"] < 1
    assert value["machine"]["threads"] == torch.get_num_threads()
    assert {"conv1", "fc"} <= {row["step"] for row in value["layers"]}
    text = ftwt_command(*command, "--layers").out
    assert "layer3.0.conv2" in text
    assert "no row for dense, compiled: torch.compile does not work here: no C++ compiler" in text
    refused = ftwt_command("bench", "cifar10-resnet8", "--reduction", 0.4, "--fraction", 0.5)
    assert refused.status == 2


def test_light_gates_are_low_rank_where_the_papers_would_cost():
    name = "cifar10-mobilenet_v1-x0.25"
    (_, paper), (_, light) = (_untrained(name, None, one) for one in Gates)
    assert light.dense_macs == paper.dense_macs
    assert light.gate_macs < paper.gate_macs


def test_latencies_are_over_batches_each_by_its_own_rounds():
    # Three batches in turn, twice; the third is slow.
    timing = Timing(1.5, 1.0, 2.0, (1.0, 2.0, 9.0, 3.0, 2.0, 11.0))
    found = latency(timing, 3)
    assert (found.mean, found.median, found.p99) == (14 / 3, 2.0, 10.0)
    assert latency(Timing(1, 1, 1, tuple(range(1, 201))), 200).p99 == 198


@pytest.mark.usefixtures("no_compiler")
def test_an_escalating_network_is_timed_image_by_image():
    network, _ = untrained()
    whole = ftwt.attach(network, ftwt.Pruning(gates.Fixed({})), example=torch.zeros(1, 3, 32, 32))
    masks = {
        gate.site.name: [True] + [False] * (gate.site.out_channels - 1)
        for gate in whole.gates.values()
    }
    small = ftwt.escalation.with_gate(whole, gates.Fixed(masks))
    model = ftwt.escalate([small, whole], thresholds=1.0).eval()
    value = bench(network, model, images(4), rounds=1)
    assert value["rounds"] == 4
    assert value["macs"] == pytest.approx(value["dense_macs"] + small.trace(images(1)).macs.item())
    names = [row["name"] for row in value["rows"]]
    assert {"dense, eager", "masked", "skip, torch", "skip, planned"} <= set(names)
    for row in value["rows"]:
        assert 0 < row["latency"]["median"] <= row["latency"]["p99"]
    best = next(row for row in value["rows"] if row["name"] == value["best_dense"])
    masked = next(row for row in value["rows"] if row["name"] == "masked")
    ratio = best["latency"]["mean"] / masked["latency"]["mean"]
    assert masked["speedup"] == pytest.approx(ratio)
    assert (value["share_of_bound"], value["bound_macs"], value["layers"]) == (None, None, [])


@pytest.mark.usefixtures("no_compiler")
def test_a_narrow_network_is_timed_beside_the_whole_one():
    network, whole = untrained(gate=gates.Fixed({}))
    kept = {
        gate.site.name: torch.arange(gate.site.out_channels) % 2 == 0 for gate in whole.site_gates
    }
    value = bench(network, narrow(whole.eval(), kept), images(1), rounds=1)
    assert value["dense_macs"] == whole.dense_macs
    assert value["mac_ratio"] > 3
    assert {"dense, eager", "dense, folded", "skip, native"} <= {
        row["name"] for row in value["rows"]
    }
