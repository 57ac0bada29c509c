"""The networks that others wrote, and what has to hold for each: see `examine`."""

import time
import warnings
from dataclasses import asdict, dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import ftwt
from ftwt import escalation, gates, losses, networks
from tests.laws import rewritten
from tests.laws.soundness import Convolution, check

TIMM = (
    "resnet50", "resnetv2_50", "regnety_008", "mobilenetv3_small_050", "mobilenetv2_100",
    "mobilenetv1_100", "efficientnet_b0", "densenet121", "dla34", "hrnet_w18_small", "repvgg_a0",
    "ghostnet_100", "mnasnet_100", "convnext_atto", "seresnet50", "dpn68", "inception_v3",
    "xception", "darknet53", "cspresnet50", "tinynet_a", "fbnetc_100", "hardcorenas_a",
    "res2net50_26w_4s", "resnest14d", "ese_vovnet19b_dw", "vovnet39a", "rexnet_100", "nfnet_f0",
    "fastvit_t8", "mobileone_s0", "edgenext_xx_small", "mobilenetv4_conv_small", "starnet_s1",
    "inception_next_atto",
)  # fmt: skip
# Small, and together every kind of block: residual, dense, shuffled, split, excited, depthwise,
# channels last, functional batch norm, branches of several kernels.
SAMPLE = (
    "torchvision:shufflenet_v2_x0_5", "torchvision:mobilenet_v3_small", "torchvision:squeezenet1_1",
    "torchvision:regnet_y_400mf", "timm:ghostnet_100", "timm:convnext_atto", "timm:resnest14d",
    "timm:edgenext_xx_small",
)  # fmt: skip
_TRANSFORMERS = ("vit", "swin", "maxvit")
# Sides of the image, in pixels; a network is examined on the smallest that it takes.
_SIDES = (64, 96, 128, 224, 299)
_BATCH = 2
DRAWS = 8
# Share of the filters that random masks keep.
KEPT = 0.4


def names() -> list[str]:
    """All 68 convolutional classification networks of torchvision, and 35 of timm."""
    from torchvision import models

    vision = [
        f"torchvision:{name}"
        for name in models.list_models(module=models)
        if not name.startswith(_TRANSFORMERS)
    ]
    return [*vision, *(f"timm:{name}" for name in TIMM)]


def built(name: str) -> tuple[nn.Module, Tensor]:
    """A network of the zoo whose channels differ, and two images of the smallest size for it."""
    if name.startswith("timm:"):
        pytest.importorskip("timm", reason="timm is not installed: pip install ftwt[timm]")
    with warnings.catch_warnings():
        # These packages' own affair, such as GoogLeNet's initialisation.
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        network = networks.build(name).eval()
        side = smallest(network)
        images = torch.randn(2, 3, side, side)
        redraw(network, torch.randn(4, 3, side, side))
    return network, images


@dataclass(frozen=True)
class Record:
    """What was found of one network. MACs are for one image of the network's own size."""

    network: str
    sites: int
    convolutions: int
    size: int
    dense_macs: int
    gate_macs: int
    # Dense MACs that are left when no filter of any site runs.
    unreached_macs: int
    parameters: int
    # Size of the images of the checks, and what they saw: channels at convolution inputs, over
    # all samples, that are zero whatever the image and the parameters, and those found so.
    examined_size: int
    zero_channels: int
    found_channels: int
    unknown: tuple[str, ...]
    # By way of `rewritten.WAYS`: how far its answers are, as a share of the largest output, or why
    # it was refused.
    ways: dict[str, float | str]
    # Of processor time, which does not depend on what else the machine does.
    cpu_seconds: float

    @property
    def tightness(self) -> float | None:
        """Share of the zero channels that the analysis found; None where there are none."""
        return self.found_channels / self.zero_channels if self.zero_channels else None

    def json(self) -> dict[str, object]:
        return asdict(self) | {"tightness": self.tightness}


def examine(name: str) -> Record:
    """Assert everything that holds for any network, and measure.

    Every mask on: the plain network's output, and torch's own count. Random masks: what the
    analysis calls dead is zero. Skipped, cut and slimmed: the masked network's output, or refused
    by name. A training step: finite.
    """
    started = time.process_time()
    torch.manual_seed(0)
    network = networks.build(name).eval()
    side = smallest(network)
    redraw(network, torch.randn(4, 3, side, side))
    model = _every_mask_on(network, torch.randn(_BATCH, 3, side, side))
    zero, found, unknown = _random_masks(model, side)
    ways = _ways(network, torch.randn(_BATCH, 3, side, side))
    _training_step(network, torch.randn(_BATCH, 3, side, side))
    return Record(
        **_costs(network.to("meta"), networks.image_size(name)),
        network=name,
        examined_size=side,
        zero_channels=zero,
        found_channels=found,
        unknown=unknown,
        ways=ways,
        cpu_seconds=round(time.process_time() - started, 1),
    )


def redraw(network: nn.Module, images: Tensor) -> None:
    """Random parameters where a new network has constants, and signs where it has habits.

    A new batch norm maps zero to zero, which no trained one does; new gammas and biases of zero
    switch whole branches off. Both would fake zeros, or hide that something is not zero. A
    filter's sign decides whether a ReLU lets it pass, so that is drawn too. Batch norms then take
    their statistics from `images`, so that deep networks stay finite.
    """
    with torch.no_grad():
        for module in network.modules():
            norm = isinstance(module, nn.BatchNorm2d)
            for name, parameter in module.named_parameters(recurse=False):
                if norm or parameter.dim() <= 1:
                    if "bias" in name or not parameter.any():
                        parameter.uniform_(*((-1.0, 1.0) if norm else (-0.5, 0.5)))
                    elif bool((parameter > 1e-3).all()):
                        parameter.uniform_(0.5, 1.5)
                elif isinstance(module, nn.Conv2d):
                    parameter *= torch.randn(len(parameter), 1, 1, 1).sign()
    _calibrate(network, images)


def _calibrate(network: nn.Module, images: Tensor) -> None:
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    momenta = [one.momentum for one in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def smallest(network: nn.Module) -> int:
    for side in _SIDES:
        try:
            with torch.no_grad():
                network(torch.zeros(1, 3, side, side))
        except (RuntimeError, AssertionError):
            continue
        return side
    raise AssertionError(f"no side of {_SIDES} fits")


def _every_mask_on(network: nn.Module, images: Tensor) -> ftwt.Gated:
    model = ftwt.attach(network, ftwt.Pruning(gate=gates.Fixed({})), example=images[:1])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images[:1])
    with torch.no_grad():
        trace = model.trace(images, targets=False)
        plain = network(images)
    assert model.dense_macs == counter.get_total_flops() // 2
    assert model.gate_macs == 0
    assert (trace.macs == model.dense_macs).all()
    assert plain.isfinite().all()
    assert (trace.output - plain).abs().max() <= 1e-5 * plain.abs().max()
    return model


def _random_masks(dense: ftwt.Gated, side: int) -> tuple[int, int, tuple[str, ...]]:
    """Soundness in each of several draws; a channel that is zero in all of them is truly zero.

    In one draw many channels are zero by accident: at small maps a ReLU answers nothing but zeros
    half of the time. No analysis of the graph alone can know, so images and parameters are drawn
    again, with the same masks.
    """
    model = escalation.with_gate(dense, gates.Random(KEPT))
    with torch.no_grad():
        trace = model.trace(torch.zeros(_BATCH, 3, side, side), targets=False)
    masks = trace.masks
    always: dict[str, Convolution] = {}
    for _ in range(DRAWS):
        images = torch.randn(_BATCH, 3, side, side)
        redraw(model, images)
        for name, seen in check(model, images, masks).items():
            before = always.get(name, seen)
            always[name] = Convolution(seen.dead, seen.silent & before.silent)
    zero = sum(int(one.silent.sum()) for one in always.values())
    found = sum(int(one.dead.sum()) for one in always.values())
    unknown = sorted(set(model.anatomy.liveness.unknown.values()))
    return zero, found, tuple(unknown)


def _ways(network: nn.Module, images: Tensor) -> dict[str, float | str]:
    # Random masks drew the parameters again, so that statistics of batch norms may be stale.
    redraw(network, torch.randn(4, *images.shape[1:]))
    model, masks = rewritten.gated(network, images, KEPT)
    return {way: rewritten.difference(way, model, masks, images) for way in rewritten.WAYS}


def _training_step(network: nn.Module, images: Tensor) -> None:
    # What attach checks, it has checked of this network above.
    model = ftwt.attach(network, ftwt.Pruning(), example=images[:1], check=False).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    objective = losses.CrossEntropy() + losses.GateBCE()
    total = objective(model.trace(images), torch.arange(len(images))).total
    total.backward()
    optimizer.step()
    assert total.isfinite()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in model.gate_parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.backbone_parameters())


def _costs(network: nn.Module, size: int) -> dict[str, int]:
    """Costs for an image of the network's own size, on tensors without data."""
    example = torch.zeros(1, 3, size, size, device="meta")
    model = ftwt.attach(network, ftwt.Pruning(), example=example, check=False)
    none = {
        site.site.name: torch.zeros(1, site.site.out_channels, dtype=torch.bool)
        for site in model.gates.values()
    }
    plan = model.anatomy.plan
    return {
        "sites": len(model.sites),
        "convolutions": len(model.anatomy.candidates),
        "size": size,
        "dense_macs": model.dense_macs,
        "gate_macs": model.gate_macs,
        "unreached_macs": int(sum(layer.sum() for layer in plan.exact(none).values())),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
