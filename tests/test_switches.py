"""Switches of the loop: accumulation, averages, warm-up, compilation, what is shown meanwhile."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from ftwt import losses, training
from ftwt.training import distributed, precision
from ftwt.training.metrics import Metrics
from ftwt.training.step import TrainingStep
from tests.command_line import make_folder
from tests.small import refused
from tests.test_training import gated

OBJECTIVE = losses.Objective.of(losses.CrossEntropy())


def network() -> nn.Module:
    """Without batch norm, whose statistics are those of a batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def batch(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    return images, torch.arange(count) % 3


def parts(whole: tuple[torch.Tensor, torch.Tensor], size: int) -> list:
    return list(zip(*(torch.split(one, size) for one in whole), strict=True))


def fit(batches, phases=1, **switches):
    settings = training.Settings(
        (training.Phase("all", phases),),
        training.Sgd(0.5, schedule=training.Constant()),
        **switches,
    )
    model = network()
    state = training.start(model, settings, len(batches))
    training.fit(state, OBJECTIVE, settings, batches, [batch(3)])
    return state


def test_accumulated_batches_make_the_step_of_the_whole_batch():
    one, three = fit([batch(12)]), fit(parts(batch(12), 4), accumulate=3)
    assert (one.step, three.step) == (1, 1)
    for whole, made in zip(one.model.parameters(), three.model.parameters(), strict=True):
        torch.testing.assert_close(made, whole)


def test_the_last_step_of_an_epoch_may_have_fewer_batches():
    """Its gradient is the mean over the batches that it has, not over those of a whole step."""
    seen = batch(12)
    steps = fit([parts(seen, 8)[0], parts(seen, 8)[1]])
    made = fit(parts(seen, 4), accumulate=2)
    assert made.step == 2
    for whole, own in zip(steps.model.parameters(), made.model.parameters(), strict=True):
        torch.testing.assert_close(own, whole)


def test_the_average_is_kept_and_validated():
    seen = [batch(4, seed) for seed in range(3)]
    weights = []
    model = network()
    settings = training.Settings(
        (training.Phase("all", 1),), training.Sgd(0.5, schedule=training.Constant()), ema=0.8
    )
    state = training.start(model, settings, 3)
    training.fit(
        state, OBJECTIVE, settings, seen, [batch(3)],
        after_step=lambda _: weights.append(model[3].weight.detach().clone()),
    )  # fmt: skip
    average = weights[0]
    for one in weights[1:]:
        average = 0.8 * average + 0.2 * one
    torch.testing.assert_close(model[3].weight.detach(), average)
    assert not torch.equal(weights[-1], average)


def test_gradients_are_clipped_together():
    before, after = network(), fit([batch(12)], clip_norm=1e-3).model
    moved = [
        (new - old).flatten()
        for new, old in zip(after.parameters(), before.parameters(), strict=True)
    ]
    # One step with learning rate 0.5.
    assert torch.cat(moved).norm().item() == pytest.approx(0.5e-3, rel=1e-3)


def test_warm_up_rises_in_a_line_and_the_schedule_follows():
    schedule = training.Warmup(training.Cosine(), 0.25)
    optimizer = training.Sgd(1.0).build(network().parameters())
    scheduler = schedule.build(optimizer, 16)
    rates = []
    for _ in range(16):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(1.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ({"amp": True}, "amp=True is unknown; use 'auto', 'bf16', 'fp16' or None"),
        ({"accumulate": 0}, "accumulate=0; give 1 or more"),
        ({"accumulate": 1.5}, "accumulate=1.5; give 1 or more, a whole number"),
        ({"clip_norm": 0.0}, "clip_norm=0.0; give a norm above 0"),
        ({"ema": 1.0}, r"ema=1.0 is outside \(0, 1\)"),
    ],
)
def test_bad_switches_are_told(switch, message):
    refused(message, training.Settings, (training.Phase("a", 1),), training.Sgd(0.1), **switch)


def test_bad_warm_up_is_told():
    refused(r"share=0 is outside \(0, 1\)", training.Warmup, training.Cosine(), 0)


def test_parameters_that_no_loss_reaches_are_found_without_a_trace():
    """With gates, and a loss that does not reach them; nothing of the model changes by looking."""
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    model = gated().train()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    generator = torch.get_rng_state()
    without = TrainingStep(model, OBJECTIVE, phase=training.Phase("gates", 1), amp=None)
    assert distributed._unreached(without, images, labels) == len(model.gate_parameters())
    both = TrainingStep(
        model, losses.CrossEntropy() + losses.GateBCE(), phase=training.Phase("gates", 1), amp=None
    )
    assert distributed._unreached(both, images, labels) == 0
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert all(one.grad is None for one in model.parameters())
    assert torch.equal(generator, torch.get_rng_state())


COMPILED = """
import torch, ftwt
from ftwt import backbones, losses, training
torch.set_num_threads(1)

def losses_of(compiled):
    torch.manual_seed(0)
    model = ftwt.attach(backbones.resnet8(), ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32))
    phases = training.Phase("gates", 1), training.Phase("frozen", 1, train="backbone")
    settings = training.Settings(phases, training.Sgd(0.01), training.Sgd(0.1), compile=compiled)
    seen = [(torch.randn(8, 3, 32, 32), torch.arange(8)) for _ in range(2)]
    state, rows = training.start(model, settings, 2), []
    objective = losses.CrossEntropy() + losses.GateBCE()
    note = lambda row, _: rows.append(row)
    training.fit(state, objective, settings, seen, seen, after_epoch=note)
    return [loss for row in rows for loss in row.losses.values()]

plain, compiled = losses_of(False), losses_of(True)
assert len(plain) == 5
assert all(abs(a - b) <= 1e-3 * abs(a) for a, b in zip(plain, compiled)), (plain, compiled)
"""


@pytest.mark.slow
def test_compiled_steps_train_to_the_same_losses():
    """In a process of its own: what checks shapes in tests is not what compiles."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


def test_tensorboard_gets_each_epoch_once(ftwt_command, tmp_path, monkeypatch):
    """With a writer in place of TensorBoard's, which need not be installed."""
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((Path(folder).name, 0.0, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None: ...

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    folder = make_folder(tmp_path / "images")
    answer = ftwt_command(
        "train", "cifar10-resnet8-short", "--data", f"imagefolder:{folder}", "--out",
        tmp_path / "run", "--epochs", 2, "--tensorboard", "--accumulate", 2, "--json",
    )  # fmt: skip
    assert answer.json()["specification"]["settings"]["accumulate"] == 2
    assert written[0] == ("tensorboard", 0.0, 1)
    steps = [step for name, _, step in written if name == "accuracy/validation"]
    assert steps == [1, 2]
    assert {"loss/GateBCE", "accuracy/masks", "MAC reduction/exact"} <= {one[0] for one in written}


def test_tensorboard_that_is_not_installed_is_told(ftwt_command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    folder = make_folder(tmp_path / "images")
    answer = ftwt_command(
        "train", "cifar10-resnet8-short", "--data", f"imagefolder:{folder}", "--out",
        tmp_path / "run", "--tensorboard",
    )  # fmt: skip
    assert answer.status == 2
    assert "pip install ftwt[tensorboard]" in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("amp", ["bf16", "auto", "none"])
@pytest.mark.parametrize("fast", [True, False])
def test_half_precision_that_is_slower_is_told(amp, fast, ftwt_command, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_has_fast_bf16", lambda kind: fast)
    folder = make_folder(tmp_path / "images")
    answer = ftwt_command(
        "train", "cifar10-resnet8-short", "--data", f"imagefolder:{folder}", "--out",
        tmp_path / "run", "--dense", "--epochs", 1, "--amp", amp, "--json",
    )  # fmt: skip
    half = amp == "bf16" or (amp == "auto" and fast)
    assert answer.json()["precision"] == ("bf16" if half else "float32")
    told = "bfloat16 is slower than float32 on this cpu: use --amp auto" in answer.err
    assert told == (amp == "bf16" and not fast)


def test_the_running_means_are_told_in_words():
    from ftwt_cli.progress import now

    model, metrics = gated(), Metrics()
    step = TrainingStep(
        model, losses.CrossEntropy() + losses.GateBCE(), phase=training.Phase("gates", 1), amp=None
    )
    _, sums = step(torch.randn(4, 3, 32, 32), torch.arange(4))
    metrics.add(sums, 4)
    metrics.seconds = 0.5
    words = now(metrics.means())
    assert words[-1] == "8 images/s"
    assert [word.split()[0] for word in words[:-1]] == [
        "CrossEntropy", "GateBCE", "loss", "train", "masks",
    ]  # fmt: skip
