"""`skip` beyond the laws: what it refuses, what it follows, plans, sizes, operations in place."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ftwt
from ftwt import FtwtError, gates, runtime
from ftwt.dial import Knot
from ftwt.runtime import native
from ftwt.runtime.program import Call, Conv, Linear, Pick

BACKENDS = ("dense", "torch", *(("native",) if native.available() else ()))
both = pytest.mark.parametrize("backend", BACKENDS)


def noisy(network):
    """Batch norms that do something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -1, 1)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def gated(network, *example, share=0.5, **options):
    example = example or (torch.zeros(1, 3, 8, 8),)
    pruning = ftwt.Pruning(gate=gates.Random(share))
    return ftwt.attach(noisy(network), pruning, example=example, **options).eval()


def everything(name, module):
    return True


def check(model, *inputs, backend="torch"):
    """Same outputs, inputs left alone, executed as counted; returns the program."""
    fast = runtime.skip(model, backend=backend)
    kept = [one.clone() for one in inputs]
    with torch.no_grad():
        expected = model(*[one.clone() for one in inputs])
    answer = fast(*inputs)
    leaves = torch.utils._pytree.tree_leaves
    for one, two in zip(leaves(answer), leaves(expected), strict=True):
        assert (one - two).abs().max() <= 1e-4 * two.abs().max() + 1e-6
    assert all(torch.equal(one, two) for one, two in zip(inputs, kept, strict=True))
    assert set(fast.audit(*inputs).differing) <= set(fast.audit(*inputs).dense)
    return fast.program(*inputs)


def small():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(), "Sequential has no gates.*attach gates first"),
        (lambda: "resnet", "model is a str, expected a gated network"),
        (lambda: gated(small()).train(), "the model is in training mode.*model.eval"),
        (
            lambda: ftwt.attach(
                small(), ftwt.Pruning(gate=gates.Oracle()), example=IMAGES[:1]
            ).eval(),
            "an oracle reads the output that skipping would not compute",
        ),
    ],
    ids=["plain", "string", "training", "oracle"],
)
def test_refuses_models(make, message):
    with pytest.raises(FtwtError, match=message):
        runtime.skip(make())


def test_refuses_a_single_batch_norm_in_training_mode():
    model = gated(small())
    model.get_submodule("1").train()
    with pytest.raises(FtwtError, match="'1' is in training mode"):
        runtime.skip(model)


@both
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(0, 3, 8, 8), r"\(0, 3, 8, 8\), with nothing in it"),
        (torch.zeros(1, 4, 8, 8), r"\(1, 4, 8, 8\), but the network takes \(B, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"\(3, 8, 8\), but the network takes \(B, 3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.float64), "float64, but.*computes in float32"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8, but the network computes in float32"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "on meta, but the network is on cpu"),
        ([1, 2, 3], "input is a list; give a tensor"),
        (torch.zeros(1, 3, 0, 8), "with nothing in it"),
    ],
)
def test_refuses_inputs_in_one_line(backend, images, message):
    fast = runtime.skip(gated(small()), backend=backend)
    fast(IMAGES)
    with pytest.raises(FtwtError, match=message) as caught:
        fast(images)
    assert "\n" not in str(caught.value)


def test_refuses_inputs_in_another_number_and_images_that_are_too_small():
    fast = runtime.skip(gated(small()))
    with pytest.raises(FtwtError, match="2 inputs came, but the network was attached with 1"):
        fast(IMAGES, IMAGES)
    with pytest.raises(FtwtError, match="0 inputs came"):
        fast()
    with pytest.raises(FtwtError, match=r"does not run on samples of shape \(3, 1, 1\)"):
        fast(torch.zeros(1, 3, 1, 1))


def test_refuses_calls_in_training_mode():
    model = gated(small())
    fast = runtime.skip(model)
    fast(IMAGES)
    model.train()
    with pytest.raises(FtwtError, match="was put into training mode"):
        fast(IMAGES)


def test_refuses_plans_that_do_not_fit():
    fast = runtime.skip(gated(small()), calibrate=IMAGES)
    other = gated(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    with pytest.raises(FtwtError, match="the plan was made for another model"):
        runtime.skip(other, plan=fast.plan)
    with pytest.raises(FtwtError, match="no plan of this version"):
        runtime.skip(other, plan={"format": 99})
    with pytest.raises(FtwtError, match="give one of calibrate=, plan= and backend= only"):
        runtime.skip(other, plan=fast.plan, backend="torch")
    with pytest.raises(FtwtError, match="backend='cuda' is unknown; use one of dense, torch"):
        runtime.skip(other, backend="cuda")


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
    # The fastest of the candidates is what runs.
    best = min(told.totals, key=lambda name: told.totals[name])
    assert best == "mixed" or {row.backend for row in told.rows} <= {best, "torch"}


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


class Upside:
    def __call__(self, logits, *, training=False):
        return (logits < 0).to(logits.dtype)


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
    knots = (Knot(0.0, 0.0, 1.0, zero), Knot(1.0, 1.0, 0.0, dict.fromkeys(model.sites, 0.4)))
    model = model.with_thresholds(zero, knots)
    fast = runtime.skip(model)
    for reduction in (0.0, 0.5, 0.9):
        with torch.no_grad():
            trace = model.at(reduction=reduction).trace(IMAGES, targets=False)
        turned = fast.at(reduction=reduction)
        assert (turned(IMAGES) - trace.output).abs().max() < 1e-5
        assert torch.equal(turned.audit(IMAGES).counted_macs, trace.macs)


def test_what_is_no_number_shows_in_the_output():
    for backend in ("dense", "torch"):
        images = IMAGES.clone()
        images[0, 0, 0, 0] = float("nan")
        model = ftwt.attach(noisy(small()), ftwt.Pruning(), example=IMAGES[:1]).eval()
        answer = runtime.skip(model, backend=backend)(images)
        assert answer[0].isnan().any(), backend
        assert answer[1:].isfinite().all(), backend


@both
@pytest.mark.parametrize("side", [8, 9, 16, 31])
def test_other_sizes_of_images(backend, side):
    images = torch.randn(2, 3, side, side)
    check(gated(small()), images, backend=backend)


def test_a_size_that_the_classifier_does_not_take():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    fast = runtime.skip(gated(network))
    fast(IMAGES)
    with pytest.raises(FtwtError, match=r"\(3, 9, 9\); it was attached with \(3, 8, 8\)"):
        fast(torch.zeros(1, 3, 9, 9))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 + 2, 3)

    def forward(self, images, extra):
        x = F.relu(self.two(F.relu(self.one(images))))
        pooled = x.mean((2, 3))
        return {"logits": self.head(torch.cat([pooled, extra], 1)), "features": (x, pooled)}


@both
def test_several_inputs_and_nested_outputs(backend):
    example = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 2))
    model = gated(Two(), *example, where=everything)
    check(model, IMAGES, torch.randn(3, 2), backend=backend)
    fast = runtime.skip(model, backend=backend)
    with pytest.raises(FtwtError, match=r"batches of \[2, 3\]"):
        fast(IMAGES, torch.randn(2, 2))


class InPlace(nn.Module):
    """Reads under old names what was changed in place, views included."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, images):
        images.mul_(2)
        x = self.one(images)
        half = x[:, :3]
        half.add_(1.0)
        kept = x.clone()
        x.relu_()
        y = self.two(x)
        y.add_(kept)
        F.leaky_relu_(y)
        return y + x + images.mean(), kept, half


@both
def test_operations_in_place(backend):
    check(gated(InPlace(), where=everything), IMAGES, backend=backend)


class Odd(nn.Module):
    """Operations and settings that few networks have."""

    def __init__(self):
        super().__init__()
        self.reflect = nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect")
        self.same = nn.Conv2d(6, 6, 3, padding="same", dilation=2)
        self.soft = nn.Softplus()
        self.wide = nn.Conv2d(6, 8, (1, 3), stride=(2, 1), padding=(0, 1))
        self.last = nn.Linear(8, 5)
        self.scale = nn.Parameter(torch.rand(1, 8, 1, 1))

    def forward(self, x):
        x = self.soft(self.reflect(x))
        x = F.gelu(self.same(x))
        x = torch.sigmoid(F.conv2d(x, self.wide.weight * 2, stride=(2, 1), padding=(0, 1)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True) * self.scale
        x = F.avg_pool2d(x, 2, 2, 0, False, False)
        return self.last(x.permute(0, 2, 3, 1))


@both
def test_odd_settings(backend):
    images = torch.randn(2, 3, 13, 13)
    model = gated(Odd(), torch.zeros(1, 3, 13, 13), where=everything)
    check(model, images, backend=backend)


class Dynamic(nn.Module):
    """A convolution whose weights nobody knows beforehand."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = F.conv2d(x, self.one.weight * x.mean(), self.one.bias)
        return F.relu(self.two(F.relu(x)))


def test_what_torch_runs_dense_is_listed():
    model = gated(Dynamic(), where=everything)
    first = model.sites[0]
    check(model, IMAGES)
    audit = runtime.skip(model, backend="torch").audit(IMAGES)
    assert audit.dense == audit.differing == (first,)


def test_estimators_of_the_users_own():
    pruning = ftwt.Pruning(estimator=Upside())
    model = ftwt.attach(noisy(small()), pruning, example=IMAGES[:1]).eval()
    check(model, IMAGES)


def test_what_lowering_makes_of_common_patterns():
    shuffle = ftwt.networks.build("torchvision:shufflenet_v2_x0_5").eval()
    model = gated(shuffle, torch.zeros(1, 3, 64, 64))
    steps = runtime.skip(model).program(torch.zeros(1, 3, 64, 64)).steps
    assert not [step for step in steps if isinstance(step, Call)]
    assert [step for step in steps if isinstance(step, Pick)]
    resnet = gated(ftwt.backbones.resnet8(), torch.zeros(1, 3, 32, 32))
    steps = runtime.skip(resnet).program(torch.zeros(1, 3, 32, 32)).steps
    assert not [step for step in steps if isinstance(step, Call)]
    vgg = gated(ftwt.backbones.vgg16_bn(), torch.zeros(1, 3, 32, 32))
    steps = runtime.skip(vgg).program(torch.zeros(1, 3, 32, 32)).steps
    pooled = [step for step in steps if isinstance(step, Conv) and step.pool is not None]
    assert len(pooled) >= 4
    flat = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(144, 2)
    )
    (linear,) = [
        step for step in runtime.skip(gated(flat)).program(IMAGES).steps if isinstance(step, Linear)
    ]
    assert linear.source.shape == (4, 6, 6)


@both
def test_other_precision(backend):
    model = gated(small()).double()
    check(model, IMAGES.double(), backend=backend)


def test_copies_of_a_model_and_its_weights_are_followed():
    import copy

    model = gated(small())
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.get_submodule("4").weight.zero_()
    check(twin, IMAGES)
    assert not torch.equal(runtime.skip(twin)(IMAGES), runtime.skip(model)(IMAGES))


def test_outputs_are_the_callers_own():
    fast = runtime.skip(gated(small()))
    first = fast(IMAGES)
    kept = first.clone()
    fast(torch.randn(3, 3, 8, 8))
    assert torch.equal(first, kept)
    first.zero_()
    assert torch.equal(fast(IMAGES), kept)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["dense", "torch"])
def test_on_a_gpu(backend):
    model = gated(ftwt.backbones.resnet8(), torch.zeros(1, 3, 32, 32)).cuda()
    check(model, torch.randn(3, 3, 32, 32).cuda(), backend=backend)
    fast = runtime.skip(model, calibrate=torch.randn(3, 3, 32, 32).cuda())
    assert "native" not in fast.plan.placed[0].totals
