"""Whole ends: networks of other tasks and of other libraries, trained, gated, tested, skipping."""

import copy

import pytest
import torch
from torchvision.models import detection

import ftwt
from examples.unet import CLASSES, UNet, gated, scenes, trained
from ftwt import gates, losses, runtime, slicing, targets, training
from ftwt.reports.timing import subjects
from ftwt.training import tasks


def test_a_u_net_is_trained_gated_evaluated_cut_and_skips():
    pytest.importorskip("torchmetrics")
    torch.manual_seed(0)
    task = tasks.Segmentation(CLASSES)
    train, test = scenes(96, 8, size=16), scenes(32, 16, size=16, seed=1)
    network = UNet(width=8)
    before = training.evaluate(copy.deepcopy(network), test, task=task)
    dense = training.evaluate(trained(network, train, test, 3), test, task=task)
    assert dense.metrics["mean_iou"] > before.metrics["mean_iou"] + 0.1
    result = gated(network, train, test, 1)
    model, images = result.model, test[0][0]
    best = max(row.validation.metrics["mean_iou"] for row in result.history[-1:])
    seen = training.evaluate(model, test, task=task)
    assert seen.metrics["mean_iou"] == pytest.approx(best)
    assert seen.reduction_exact > 0
    with torch.no_grad():
        trace = model.trace(images)
        for backend in ("torch", None):
            fast = runtime.skip(model, backend=backend) if backend else runtime.skip(model)
            assert torch.allclose(fast(images), trace.output, atol=1e-4)
        assert fast.audit(images).macs.tolist() == trace.macs.tolist()
    # What `bench` times: the plain network, the gated one skipping, and one cut to its activity.
    runs = subjects.skipping(model, images[:1]).runs
    narrow, macs = subjects.bound(model, images)
    assert {subjects.TORCH, subjects.PLANNED} <= set(runs)
    assert narrow(images[:1]).shape == (1, CLASSES, 16, 16)
    assert 0 < macs < model.dense_macs
    assert isinstance(slicing.cut(model, {name: mask[0] for name, mask in trace.masks.items()}),
                      torch.nn.Module)  # fmt: skip


@pytest.fixture(scope="module")
def detector():
    """A detector of torchvision's own, small, with the side of its images."""
    torch.manual_seed(0)
    return detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64
    ).eval()


IMAGES = [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]
EXAMPLE = torch.zeros(1, 3, 64, 64)


def boxes(*places):
    return [
        {"boxes": torch.tensor([[x, x, x + 24.0, x + 20.0]]), "labels": torch.tensor([1])}
        for x in places
    ]


def same(one, other):
    return all(
        a[name].shape == b[name].shape and torch.allclose(a[name], b[name], atol=1e-3)
        for a, b in zip(one, other, strict=True)
        for name in ("boxes", "scores", "labels")
    )


def test_a_detector_with_a_gated_backbone_is_the_same_detector(detector):
    whole = copy.deepcopy(detector)
    whole.backbone = ftwt.attach(
        detector.backbone, ftwt.Pruning(gates.Fixed({})), example=EXAMPLE
    ).eval()
    with torch.no_grad():
        assert same(whole(IMAGES), detector(IMAGES))


def test_a_detector_trains_is_counted_and_skips(detector):
    pytest.importorskip("pycocotools")
    model = copy.deepcopy(detector)
    model.backbone = ftwt.attach(
        detector.backbone, ftwt.Pruning(target=targets.HeatmapMass(0.8)), example=EXAMPLE
    )
    task, batch = tasks.Detection(), (IMAGES, boxes(4.0, 20.0))
    settings = training.Settings(
        (training.Phase("both", 1),), training.Sgd(1e-3), training.Sgd(0.1), clip_norm=5.0
    )
    state = training.start(model, settings, 1)
    assert len(state.optimizers["gates"].param_groups[0]["params"]) == len(
        model.backbone.gate_parameters()
    )
    before = {name: one.clone() for name, one in model.state_dict().items()}
    rows = []
    training.fit(
        state, task.loss() + losses.GateBCE(), settings, [batch], [batch], task=task,
        after_epoch=lambda row, _: rows.append(row),
    )  # fmt: skip
    assert set(rows[0].losses) == {"loss", "ModelLosses", "GateBCE"}
    changed = [name for name, one in model.named_parameters() if not torch.equal(one, before[name])]
    assert any(name.startswith("backbone.gates.") for name in changed)
    assert any(name.startswith("roi_heads.") for name in changed)
    seen = training.evaluate(model, [batch], task=task)
    assert set(seen.metrics) == {"map", "map_50", "map_75", "recall"}
    assert rows[0].validation.metrics == seen.metrics
    model.eval()
    with torch.no_grad():
        padded = model.transform(IMAGES)[0].tensors
        trace = model.backbone.trace(padded)
        assert seen.macs == pytest.approx(trace.macs.double().mean().item())
        assert seen.dense_macs == trace.plan.dense_macs
        masked = model(IMAGES)
        model.backbone = runtime.skip(model.backbone)
        features = model.backbone(padded)
        assert list(features) == list(trace.output)
        assert all(torch.allclose(features[k], trace.output[k], atol=1e-4) for k in features)
        # Boxes that score alike change their order by rounding.
        found = model(IMAGES)
        assert torch.allclose(found[0]["scores"][:1], masked[0]["scores"][:1], atol=1e-4)
    with pytest.raises(ftwt.FtwtError, match="Detection: the network's output is Tensor"):
        training.evaluate(torch.nn.Sequential(_First()), [batch], task=task)


class _First(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.weight * images[0]


def test_perfect_boxes_have_a_precision_of_one_whatever_their_order():
    pytest.importorskip("pycocotools")
    wanted = boxes(4.0, 20.0)
    answers = [one | {"scores": torch.ones(1)} for one in wanted]
    meter = tasks.Detection().meter(torch.device("cpu"))
    meter.update(answers[:1], wanted[:1])
    meter.update(answers[1:], wanted[1:])
    assert meter.compute() == pytest.approx({"map": 1, "map_50": 1, "map_75": 1, "recall": 1})


def test_a_module_that_holds_several_gated_networks_is_refused():
    pair = torch.nn.ModuleList(
        ftwt.attach(UNet(width=4), ftwt.Pruning(), example=torch.zeros(1, 3, 8, 8))
        for _ in range(2)
    )
    with pytest.raises(ftwt.FtwtError, match=r"holds 2 gated networks \(0, 1\)"):
        training.evaluate(pair, [])
