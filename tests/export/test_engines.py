"""ONNX and torch.export: what is written answers as the network does, or nothing is written."""

import sys

import pytest
import torch
from torch import nn

import ftwt
from ftwt import FtwtError, gates, slicing
from ftwt.export import engines, exporting, onnx
from ftwt.io import Card
from tests.small import refused

FORMATS = {"onnx": "model.onnx", "torch": "model.pt2"}


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


def gated(gate=None):
    pruning = ftwt.Pruning(gate or gates.PooledLinear())
    return ftwt.attach(small(), pruning, example=torch.zeros(1, 3, 8, 8)).eval()


def images(count=3):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def fixed():
    return gated(gates.Fixed({"0": [True] * 3 + [False] * 5}))


def escalating():
    return ftwt.escalate([fixed(), gated()], thresholds=(0.1,), mirror=True).eval()


def slimmed():
    return slicing.narrow(gated(), {"0": torch.arange(8) < 5, "3": torch.arange(8) > 1})


MODELS = {
    "dynamic masks": gated, "fixed masks": fixed, "plain": small, "escalating": escalating,
    "slimmed": slimmed,
}  # fmt: skip


def answer(path, batch):
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(batch)
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    return torch.from_numpy(session.run(None, {"x": batch.numpy()})[0])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", MODELS)
def test_what_is_written_answers_as_the_network(kind, format, tmp_path):
    model, path = MODELS[kind](), tmp_path / FORMATS[format]
    example = images(1) if kind == "plain" else None
    exported = ftwt.export(model, path, format=format, example=example)
    assert exported.files == {path.name: path.stat().st_size}
    assert "answers the same, within" in exported.check
    assert ("OpenVINO" in exported.check) == (format == "onnx")
    for count in (1, 3):
        with torch.no_grad():
            torch.testing.assert_close(answer(path, images(count)), model(images(count)))


def test_fixed_masks_are_cut_to_round_widths(tmp_path):
    loaded = pytest.importorskip("onnx").load
    for round_to, width in ((1, 3), (4, 4)):
        path = tmp_path / f"{round_to}.onnx"
        ftwt.export(fixed(), path, format="onnx", round_to=round_to)
        weights = [tuple(one.dims) for one in loaded(path).graph.initializer if len(one.dims) == 4]
        assert weights == [(width, 3, 3, 3), (8, width, 3, 3)]


class Inverse(nn.Module):
    """An operator that ONNX has not."""

    def forward(self, x):
        return torch.special.i1(x)


def test_what_cannot_be_written_is_one_line(tmp_path, capfd):
    uneven = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(4)).eval()
    odd = nn.Sequential(nn.Conv2d(3, 4, 3), Inverse()).eval()
    half = nn.Conv2d(3, 4, 3).bfloat16().eval()
    cases = {
        "ONNX Runtime does not take this network: .*bfloat16": lambda path: ftwt.export(
            half, path, format="onnx", example=images(1).bfloat16()
        ),
        r"export: ONNX cannot hold this network: .*i1": lambda path: ftwt.export(
            odd, path, format="onnx", example=images(1)
        ),
        r"size that are not factor of input size; format='torch' may write it$": (
            lambda path: ftwt.export(uneven, path, format="onnx", example=images(1))
        ),
        "training mode; call model.eval": lambda path: ftwt.export(
            gated().train(), path, format="onnx"
        ),
        "plain network, whose inputs are not known; give example=": lambda path: ftwt.export(
            small(), path, format="torch"
        ),
        "has no reductions; leave reduction out": lambda path: ftwt.export(
            small(), path, format="torch", reduction=0.5
        ),
        "there is no folder .*nowhere; make it first": lambda path: ftwt.export(
            gated(), tmp_path / "nowhere" / "model.onnx", format="onnx"
        ),
        "round_to is 0; give the whole number": lambda path: ftwt.export(
            gated(), path, format="onnx", round_to=0
        ),
    }
    for text, call in cases.items():
        refused(text, call, tmp_path / "model")
        assert not list(tmp_path.iterdir())
    # Not even what torch and ONNX Runtime write past Python.
    assert capfd.readouterr() == ("", "")


class Nothing(nn.Module):
    """Answers no tensor."""

    def forward(self, x):
        return len(x)


@pytest.mark.parametrize("format", FORMATS)
def test_what_makes_no_sense_is_one_line(format, tmp_path):
    example, path, undefined = images(1), tmp_path / "model", small()
    undefined[-1].weight.data.fill_(torch.nan)
    cases = (
        ("is no model", nn.Linear, path, {}),
        ("give where to write", small(), 3, {}),
        ("give an ftwt.Card", small(), path, {"card": {}}),
        ("holds no tensors", small(), path, {"example": [[1.0]]}),
        ("holds no tensors", small(), path, {"example": ()}),
        (r"like the example, \(8, 2, 8, 8\)", small(), path, {"example": example[:, :2]}),
        ("answers without any tensor", Nothing().eval(), path, {"example": example}),
        ("NaN or infinity", undefined, path, {"example": example}),
        ("on the meta device", small().to("meta"), path, {"example": example}),
    )
    for text, model, where, keywords in cases:
        refused(text, ftwt.export, model, where, format=format, **keywords)
        assert not list(tmp_path.iterdir())


def test_an_engine_that_answers_otherwise_stops_the_export(tmp_path, monkeypatch):
    def lies(exported, threads):
        return lambda *inputs: torch.ones(len(inputs[0]), 4)

    monkeypatch.setattr(onnx, "ENGINES", {"onnxruntime": lies})
    with pytest.raises(FtwtError, match="ONNX Runtime answers something else than the network"):
        ftwt.export(gated(), tmp_path / "model.onnx", format="onnx")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FtwtError, match="needs onnxruntime, which is not installed: pip install"):
        ftwt.export(gated(), tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_a_saved_model_is_exported_by_the_command_line(tmp_path, ftwt_command):
    network = ftwt.backbones.resnet8()
    model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 8, 8)).eval()
    ftwt.save(model, tmp_path / "model.safetensors", Card("cifar10-resnet8", 10))
    value = ftwt_command("export", tmp_path, "--format", "onnx", "--json").json()
    assert value["path"] == str(tmp_path / "model.onnx")
    assert value["files"] == {"model.onnx": (tmp_path / "model.onnx").stat().st_size}
    again = ftwt_command("export", tmp_path, "--format", "onnx")
    assert again.status == 2
    assert "model.onnx exists; give a new path, or remove it first" in again.err


class SecondOf(nn.Module):
    """Answers by the second of its inputs alone, or by none of them."""

    def __init__(self, used):
        super().__init__()
        self.convolution, self.used = nn.Conv2d(3, 4, 1), used

    def forward(self, x, y):
        return self.convolution(y).mean((2, 3)) if self.used else torch.full((len(x), 4), 2.0)


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_engines_take_what_the_answer_does_not_depend_on(name, used):
    pytest.importorskip(name)
    network, batch = SecondOf(used).eval(), images(1)
    exported = exporting.onnx_of(network, (batch, batch + 1), any_batch=False)
    with torch.inference_mode():
        answered = engines.ENGINES[name](exported, 1)(batch, batch + 1)
        assert torch.allclose(answered, network(batch, batch + 1), atol=1e-5)
