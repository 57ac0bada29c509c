"""A small network, a few images and what is refused, for tests that need any."""

import pytest
import torch
from torch import Tensor, nn

import ftwt
from ftwt import backbones


def resnet8() -> nn.Module:
    """In eval mode; its batch norms have biases, or no filter would be silent for an image."""
    torch.manual_seed(0)
    network = backbones.resnet8().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.5)
    return network


def labelled(images: int, batch: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of random images (3, 32, 32) and labels below 10."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(images, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (images,), generator=generator)
    return list(zip(pixels.split(batch), labels.split(batch), strict=True))


def images(batch: int = 4, side: int = 16) -> Tensor:
    """Random images (batch, 3, side, side), the same each time."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def reversed_channels(features: Tensor) -> Tensor:
    """Of (B, C, H, W), the rows of each image first to last, the channels last to first."""
    rows = [features[:, :, row] for row in range(features.shape[2])]
    channels = [torch.stack(rows, 2)[:, -1 - place] for place in range(features.shape[1])]
    return torch.stack(channels, 1)


def refused(match, call, *arguments, **keywords) -> None:
    """The call is refused in one line that the pattern is found in."""
    with pytest.raises(ftwt.FtwtError, match=match) as caught:
        call(*arguments, **keywords)
    assert "\n" not in str(caught.value)
