"""The native format: what C answers from the written file, and what cannot be written."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

import ftwt
from ftwt import FtwtError
from ftwt.export.native.opened import Opened
from ftwt.runtime import native, skip
from ftwt.runtime.native import structs
from tests.export.networks import escalating, gated, images, mixed, plain
from tests.small import refused

pytestmark = pytest.mark.skipif(not native.available(), reason="the library is not built")
NETWORKS = {"gated": gated, "escalating": escalating}


@pytest.fixture(scope="module", params=NETWORKS)
def written(request, tmp_path_factory):
    """A network and its file."""
    model = NETWORKS[request.param]()
    path = tmp_path_factory.mktemp("native") / "out"
    card = ftwt.Card(None, 5, tuple("abcde"), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    exported = ftwt.export(model, path, format="native", card=card)
    assert "outputs within" in exported.check
    assert {"model.ftwt", "CMakeLists.txt", "example.c", "libftwt/ftwt.h"} <= set(exported.files)
    return model, path / "model.ftwt"


def same(opened, model, batch):
    """Answers to rounding, and the very MACs; gives these."""
    answers, macs = opened.run(batch)
    fast = skip(model)
    torch.testing.assert_close(answers.flatten(1), fast(batch))
    assert torch.equal(macs, fast.audit(batch).macs)
    return macs


def test_c_answers_and_counts_as_python_does(written):
    model, file = written
    opened = Opened(file)
    for count in (1, 40, 3):
        macs = same(opened, model, images(count))
        assert count < 40 or len(set(macs.tolist())) > 2
    assert opened.sizes.dense_macs == model.dense_macs
    assert (opened.sizes.lowest, opened.sizes.highest) == tuple(
        model.operating_points[place].reduction for place in (0, -1)
    )


def test_c_joins_shuffles_and_excites(tmp_path):
    model = mixed()
    ftwt.export(model, tmp_path / "out", format="native")
    same(Opened(tmp_path / "out" / "model.ftwt"), model, images(12))


def test_c_multiplies_as_seldom_as_python(tmp_path):
    model = gated()
    ftwt.export(model, tmp_path / "out", format="native")
    answers, _ = Opened(tmp_path / "out" / "model.ftwt").run(images(1))
    assert torch.equal(answers.flatten(1), skip(model, backend="native")(images(1)))
    # The rounding tells Winograd's algorithm from direct convolution.
    assert not torch.equal(answers.flatten(1), skip(model, backend="native-direct")(images(1)))


def test_at_a_reduction(written):
    model, file = written
    opened = Opened(file)
    low, high = (one.reduction for one in model.operating_points)
    costs = []
    for reduction in (low, (low + high) / 3, high):
        opened.at(reduction)
        macs = same(opened, model.at(reduction=reduction), images(8))
        costs.append(macs.sum().item())
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[2]
    for wrong in (low - 0.1, high + 0.1, float("nan")):
        refused(f"calibrated for reductions from {low:g} to {high:g}", opened.at, wrong)


@pytest.mark.parametrize(("weight", "mirror"), [(0.6, True), (1.0, False), (1.0, True)])
def test_earlier_answers_count_with_their_weight(tmp_path, weight, mirror):
    model = escalating(weight=weight, mirror=mirror)
    ftwt.export(model, tmp_path / "out", format="native")
    same(Opened(tmp_path / "out" / "model.ftwt"), model, images(20))


@pytest.mark.parametrize("gate", [
    ftwt.gates.PooledLinear(), ftwt.gates.PooledLinear("mean", "batch"),
    ftwt.gates.Bottleneck(4, "mean", "layer"), ftwt.gates.Random(0.5), ftwt.gates.Fixed({}),
], ids=repr)  # fmt: skip
def test_gates(tmp_path, gate):
    model = gated(gate)
    ftwt.export(model, tmp_path / "out", format="native")
    same(Opened(tmp_path / "out" / "model.ftwt"), model, images(5))


def test_the_example_prints_class_and_macs(written, example, tmp_path):
    model, file = written
    pixels = torch.randint(256, (8, 8, 3), generator=torch.Generator().manual_seed(3)).byte()
    picture = tmp_path / "image.ppm"
    picture.write_bytes(b"P6\n8 8\n255\n" + pixels.numpy().tobytes())
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    batch = ((pixels / 255 - mean) / std).permute(2, 0, 1)[None].contiguous()
    for at, reduced in ((), model), (("0.45",), model.at(reduction=0.45)):
        best, macs = skip(reduced)(batch).argmax().item(), skip(reduced).audit(batch).macs.item()
        expected = f"class {best}, {macs} MACs of {model.dense_macs}"
        assert example(file, picture, *at) == expected
    assert "not among" in example(file, picture, FTWT_NATIVE_SET="sse9")
    picture.write_bytes(b"P6\n8 9\n255\n" + bytes(300))
    assert "no binary PPM" in example(file, picture)
    picture.write_bytes(b"P6\n8 8\n255\n" + bytes(191))
    assert example(file, picture) == "the image ends too early"
    assert example(tmp_path / "none", picture) == "the file cannot be opened"


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_finds_nothing(written, example, tmp_path):
    model, file = written
    if isinstance(model, ftwt.Gated):
        pytest.skip("it is a setting of the escalating one")
    picture = tmp_path / "image.ppm"
    picture.write_bytes(b"P6\n8 8\n255\n" + bytes(range(192)))
    watch = ("valgrind", "-q", "--leak-check=full", "--error-exitcode=9")
    assert example(file, picture, before=watch, FTWT_NATIVE_SET="portable").startswith("class")


@pytest.mark.parametrize("threads", [-1, 0, 1025, 2**31 - 1])
def test_threads_that_nobody_has_are_refused(written, threads):
    with pytest.raises(FtwtError, match=f"{threads} threads; give 1 to 1024"):
        Opened(written[1], threads)


def test_the_page_of_the_format_tells_where_fields_are():
    page = (Path(__file__).parents[2] / "docs" / "native-format.md").read_text()
    told = {
        name: int(place)
        for places, names in re.findall(r"^\| ([\d, ]+) \| (`[^|]+`) \|", page, re.M)
        for place, name in zip(places.split(","), re.findall(r"`(\w+)`", names), strict=True)
    }
    fields = {name: getattr(structs.CFile, name).offset for name, _ in structs.CFile._fields_}
    assert told == {name: place for name, place in fields.items() if name != "unused"}


def test_wrong_shapes_are_refused(written):
    opened = Opened(written[1])
    for shape in ((2, 3, 8, 9), (2, 1, 8, 8), (1, 3, 4, 16)):
        refused(r"but the network takes \(1 to \d+, 3, 8, 8\)", opened.run, torch.zeros(shape))


def attached(*layers):
    network = nn.Sequential(*plain()[:11], *layers)
    return ftwt.attach(network, ftwt.Pruning(), example=images(1)).eval()


class Excited(nn.Module):
    """Weighs channels, by way of a vector."""

    def forward(self, x):
        return x * x.mean((2, 3)).sigmoid()[:, :, None, None]


LAYERS = {
    "vector of a map": (nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "map of a vector": (
        Excited(), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(16, 3),
    ),
    "no activation": (
        nn.Conv2d(16, 8, 1), BatchNormAct2d(8, apply_act=False), nn.AdaptiveMaxPool2d(1),
    ),
    "norms first": (
        BatchNormAct2d(16), nn.Conv2d(16, 8, 1), BatchNormAct2d(8, act_layer=nn.SiLU),
    ),
    "sides rounded up": (
        nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(16, 8, 1), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_every_step_of_usual_layers_is_written(tmp_path, layers):
    model = attached(*layers)
    ftwt.export(model, tmp_path / "out", format="native")
    answers, _ = Opened(tmp_path / "out" / "model.ftwt").run(images(2))
    torch.testing.assert_close(answers.flatten(1), model(images(2)).flatten(1))
    for backend in ("torch", "dense", "native"):
        torch.testing.assert_close(skip(model, backend=backend)(images(2)), model(images(2)))


def test_what_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "out"
    cases = {
        r"no operation for '_11' \(GELU\)": lambda: attached(nn.GELU()),
        r"'_11' \(Softmax\)": lambda: attached(nn.Softmax(1)),
        "has no gates; attach some": plain,
        "float32 on the CPU": lambda: gated().double(),
        "training mode": lambda: gated().train(),
    }
    for text, make in cases.items():
        refused(text, ftwt.export, make(), path, format="native")
    own = escalating().with_policy(ftwt.escalation.Policy((torch.sum, torch.sum), (0.5, 0.5)))
    refused("does not have the signal", ftwt.export, own, path, format="native")
    with pytest.raises(FtwtError, match="format='tflite' is unknown; use 'native'"):
        ftwt.export(gated(), path, format="tflite")
    assert not list(tmp_path.iterdir())
    path.mkdir()
    refused("exists; give a new path", ftwt.export, gated(), path, format="native")
    refused("no path; give one", ftwt.export, gated(), format="native")


@pytest.mark.parametrize(("text", "given"), [
    ("names 1 classes, the network answers with 5", (("a",),)),
    ("without zero bytes", (("a\0", *"bcde"),)),
    ("for each of 3 channels", ((), (0.5,), (0.5,))),
    ("deviations above 0", ((), (0.5,) * 3, (0.5, 0.0, 0.5))),
    ("a finite number", ((), (0.5, 0.5, float("nan")), (0.5,) * 3)),
])  # fmt: skip
def test_cards_that_do_not_fit_are_refused(tmp_path, text, given):
    card = ftwt.Card(None, 5, *given)
    refused(text, ftwt.export, gated(), tmp_path / "out", format="native", card=card)


def test_a_run_is_written_beside_itself(tmp_path, ftwt_command):
    model = ftwt.attach(ftwt.networks.build("cifar10-resnet8"), ftwt.Pruning(),
                        example=torch.zeros(1, 3, 32, 32)).eval()  # fmt: skip
    card = ftwt.Card("cifar10-resnet8", 10, tuple("abcdefghij"), (0.5,) * 3, (0.25,) * 3)
    ftwt.save(model, tmp_path / "model.safetensors", card)
    said = ftwt_command("export", tmp_path, "--format", "native", "--json").json()
    assert said["path"] == str(tmp_path / "native")
    assert said["files"]["model.ftwt"] == (tmp_path / "native" / "model.ftwt").stat().st_size
    opened = Opened(Path(said["path"]) / "model.ftwt")
    assert opened.sizes.classes == b"a"
    assert opened.sizes.mean
    again = ftwt_command("export", tmp_path, "--format", "native")
    assert (again.status, again.err.count("\n")) == (2, 1)
    assert "exists; give a new path" in again.err
