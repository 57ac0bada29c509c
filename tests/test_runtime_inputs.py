"""What a skipping network is given: precisions, forms of memory, other sizes, several callers."""

import gc
import os
import threading
import tracemalloc

import pytest
import torch
from torch import nn

import ftwt
from ftwt import gates, runtime

BACKENDS = ["native", "torch", "dense", "channels-last"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8), nn.ReLU6(), nn.Conv2d(8, 12, 1), nn.Hardswish(),
        nn.Conv2d(12, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    ).eval()  # fmt: skip


def gated(plain: nn.Module | None = None, gate=None, **options):
    torch.manual_seed(1)
    pruning = ftwt.Pruning(gates.PooledLinear() if gate is None else gate)
    example = options.pop("example", torch.zeros(1, 3, 12, 12))
    return ftwt.attach(plain or network(), pruning, example=example, **options).eval()


def images(batch: int = 4, side: int = 12, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(2)).to(dtype)


def answer(model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(*inputs)


TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_any_precision_and_form_of_weights_on_any_back_end(backend, dtype, form):
    model = gated().to(dtype).to(memory_format=form)
    x = images(dtype=dtype)
    fast = runtime.skip(model, backend=backend)
    close = TOLERANCE[dtype]
    torch.testing.assert_close(fast(x), answer(model, x), rtol=close, atol=close)
    torch.testing.assert_close(
        fast(x.to(memory_format=torch.channels_last)), fast(x), rtol=close, atol=close
    )
    audit = fast.audit(x)
    assert set(audit.differing) <= set(audit.dense)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_form_of_inputs(backend):
    model = gated()
    fast, x = runtime.skip(model, backend=backend), images()
    forms = {
        "every second": torch.cat([x, x], 3)[..., ::2],
        "turned": x.transpose(2, 3),
        "one sample for all": x[:1].expand(4, -1, -1, -1),
        "one channel for all": x[:, :1].expand(-1, 3, -1, -1),
        "with a gradient": x.clone().requires_grad_(),
        "part of a batch": torch.cat([x, x])[3:7],
    }
    for name, form in forms.items():
        assert torch.allclose(fast(form), answer(model, form), atol=1e-4), name
    for batch in (1, 2, 7):
        assert torch.allclose(fast(images(batch)), answer(model, images(batch)), atol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_other_sizes_in_every_mode_also_where_the_network_was_made(mode):
    with mode():
        model = gated()
        fast = runtime.skip(model)
        for side in (12, 9, 16):
            x = images(2, side)
            assert torch.allclose(fast(x), answer(model, x), atol=1e-4)
            assert torch.equal(fast.audit(x).counted_macs, model.trace(x).macs)
    assert torch.allclose(fast(images(3, 10)), answer(model, images(3, 10)), atol=1e-4)


class Scales(nn.Module):
    """Pixels as they are read from a file, scaled inside; the first steps move them only."""

    def __init__(self, moves):
        super().__init__()
        self.moves, self.rest = moves, network()

    def forward(self, x):
        if self.moves:
            x = torch.cat([x[:, 2:], x[:, :2]], 1)
        return self.rest(x.float() / 255)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float64], ids=str)
def test_what_attach_took_is_taken(backend, moves, dtype):
    x = (images() * 100).abs().to(dtype)
    model = gated(Scales(moves).eval(), example=x[:1])
    assert torch.allclose(runtime.skip(model, backend=backend)(x), answer(model, x), atol=1e-4)
    assert torch.equal(model.trace(x).macs, runtime.skip(model).audit(x).counted_macs)
    runtime.skip(model, calibrate=x)
    with pytest.raises(ftwt.FtwtError, match="convert it with"):
        runtime.skip(model)(x.to(torch.float16 if dtype != torch.uint8 else torch.int32))


@pytest.mark.parametrize("place", ["add", "multiply", "compare"])
def test_a_number_for_each_image_beside_it(place):
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.words = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Embedding(5, 8)

        def forward(self, x, label):
            x = self.a(x).relu()
            if place == "add":
                x = x + self.words(label)[:, :, None, None]
            elif place == "multiply":
                x = x * label.to(x.dtype).view(-1, 1, 1, 1)
            else:
                x = torch.where((label > 2)[:, None, None, None], x, -x)
            return self.b(x)

    label = torch.tensor([0, 3, 4, 1])
    model = gated(Conditional(), example=(images(1), label[:1]))
    for backend in BACKENDS:
        fast = runtime.skip(model, backend=backend)
        assert torch.allclose(fast(images(), label), answer(model, images(), label), atol=1e-4)
    runtime.skip(model, calibrate=(images(), label))
    assert torch.equal(fast.audit(images(), label).counted_macs, model.trace(images(), label).macs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_words_beside_an_image_in_any_number_also_from_a_file(dtype, tmp_path):
    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.words = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Embedding(5, 8)

        def forward(self, x, words):
            return self.b(self.a(x).relu() + self.words(words).mean(1)[:, :, None, None])

    x, words = images(dtype=dtype), torch.tensor([[0, 3, 4]] * 4)
    model = gated(Told().to(dtype), example=(x[:1], words[:1]))
    ftwt.save(model, tmp_path / "told.safetensors", ftwt.Card(network=None, num_classes=4))
    again, _ = ftwt.load(tmp_path / "told.safetensors", Told().to(dtype))
    again.eval()
    for given in (words, words[:, :1], words.repeat(1, 4)):
        assert torch.allclose(runtime.skip(again)(x, given), answer(model, x, given), atol=1e-4)
        assert torch.equal(
            runtime.skip(model).audit(x, given).counted_macs, model.trace(x, given).macs
        )


def test_threads_that_share_a_network_do_not_disturb_each_other():
    model = gated()
    fast = runtime.skip(model)
    inputs = [images(1 + i % 3, 10 + i % 4) + i for i in range(8)]
    wanted = [answer(model, one) for one in inputs]
    wrong: list[object] = []

    def serve(first: int) -> None:
        try:
            for i in range(24):
                one = (first + i) % len(inputs)
                if not torch.allclose(fast(inputs[one]), wanted[one], atol=1e-4):
                    wrong.append(one)
                if i % 8 == 0:
                    fast.audit(inputs[one])
        except Exception as error:
            wrong.append(error)

    callers = [threading.Thread(target=serve, args=(i,)) for i in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert not wrong
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_answers_as_its_parent():
    model = gated()
    fast, x = runtime.skip(model), images()
    wanted = fast(x)
    child = os.fork()
    if child == 0:
        # Nothing of the test's own must run on in the child.
        os._exit(0 if torch.equal(fast(x), wanted) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_many_calls_keep_nothing():
    model = gated()
    fast = runtime.skip(model)
    for side in range(8, 40):
        fast(images(1, side))
    x = images()
    for _ in range(20):
        fast(x)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(300):
        fast(x)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Less than a float for each call.
    assert after - before < 300 * 4 + 20_000
    assert len(fast._ready) <= 16
