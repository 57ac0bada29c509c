"""A ReLU that runs with its mask: the same values and gradients, and when it may not."""

import copy

import pytest
import torch
from torch import nn

import ftwt
from ftwt import backbones, gates, losses, targets

EXAMPLE = torch.zeros(1, 3, 32, 32)
SCORES = ("max", "mean")


def batch() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def attached(network: nn.Module, pruning: ftwt.Pruning) -> ftwt.Gated:
    torch.manual_seed(1)
    return ftwt.attach(network, pruning, example=EXAMPLE).train()


def step(model: ftwt.Gated) -> tuple[ftwt.Trace, dict[str, torch.Tensor]]:
    objective = losses.CrossEntropy() + losses.GateBCE()
    trace = model.trace(batch())
    objective(trace, torch.arange(4)).total.backward()
    return trace, {name: one.grad for name, one in model.named_parameters()}


def hooked(model: ftwt.Gated) -> list[torch.Tensor]:
    """Callbacks each ReLU, which then runs by itself; gives what they answered."""
    seen: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, answer: seen.append(answer.detach()))
    return seen


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("build", [backbones.vgg16_bn, backbones.mobilenet_v1])
def test_a_relu_that_runs_with_its_mask_changes_no_bit(build, score):
    torch.manual_seed(0)
    pruning = ftwt.Pruning(target=targets.HeatmapMass(0.9, score=score))
    fused = attached(build(), pruning)
    apart = copy.deepcopy(fused)
    seen = hooked(apart)
    (one, gradients), (two, others) = step(fused), step(apart)
    assert len(seen) >= len(fused.sites)
    assert torch.equal(one.output, two.output)
    for site in fused.sites:
        assert not one.sites[site].mask.all()
        for left, right in zip(one.sites[site], two.sites[site], strict=True):
            assert torch.equal(left, right)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, others[name]), name


def test_a_mask_with_a_gradient_keeps_its_features():
    torch.manual_seed(0)
    pruning = ftwt.Pruning(estimator=gates.StraightThrough())
    model = attached(backbones.resnet8(), pruning)
    model(batch()).square().sum().backward()
    assert all(one.grad.any() for name, one in model.named_parameters() if "gates" in name)


class WritesOn(nn.Module):
    """Works in place on a view of what a ReLU answered."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = torch.relu(self.one(x)).flatten(2).mul_(2).unflatten(2, (30, 30))
        return self.two(x).mean((2, 3))


def test_what_is_written_on_later_is_masked_by_itself():
    torch.manual_seed(0)
    model = attached(WritesOn(), ftwt.Pruning())
    model(batch()).sum().backward()
    assert model.one.weight.grad.any()
