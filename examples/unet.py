"""A small U-Net on drawn scenes: trained, gated, evaluated, skipping and timed.

python -m examples.unet              # about five minutes on two cores
"""

import argparse
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

import ftwt
from ftwt import gates, losses, runtime, targets, training
from ftwt.training import tasks

CLASSES = 3
Batches = list[tuple[Float[Tensor, "B 3 H W"], Int[Tensor, "B H W"]]]


class UNet(nn.Module):
    """An encoder, and a decoder that reads the encoder's maps again; sides divide by 4."""

    def __init__(self, width: int = 16, classes: int = CLASSES) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.down = nn.ModuleList(_block(one, two) for one, two in pairwise(widths))
        self.up = nn.ModuleList((_block(6 * width, 2 * width), _block(3 * width, width)))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B classes H W"]:
        """Return maps of logits."""
        first = self.down[0](images)
        second = self.down[1](F.max_pool2d(first, 2))
        x = self.down[2](F.max_pool2d(second, 2))
        for block, kept in zip(self.up, (second, first), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = block(torch.cat([x, kept], 1))
        logits: Tensor = self.head(x)
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


def scenes(count: int, batch: int, *, size: int = 32, seed: int = 0) -> Batches:
    """Squares (class 1) and discs (class 2) of any colour on noise (class 0), in batches."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.5 * torch.randn(count, 3, size, size, generator=generator)
    labels = torch.zeros(count, size, size, dtype=torch.long)
    axis = torch.arange(size)
    for image, label in zip(images, labels, strict=True):
        for kind in (1, 2):
            row, column = torch.randint(size, (2,), generator=generator)
            radius = torch.randint(size // 8, size // 3, (), generator=generator)
            far = (axis - row).abs()[:, None], (axis - column).abs()[None]
            inside = (
                torch.maximum(*far) < radius
                if kind == 1
                else far[0].square() + far[1].square() < radius**2
            )
            image += inside * torch.randn(3, 1, 1, generator=generator)
            label[inside] = kind
    return list(zip(torch.split(images, batch), torch.split(labels, batch), strict=True))


def trained(network: nn.Module, train: Batches, validation: Batches, epochs: int) -> nn.Module:
    """The plain network, trained."""
    task = tasks.Segmentation(CLASSES)
    settings = training.Settings((training.Phase("dense", epochs),), training.AdamW(3e-3))
    state = training.start(network, settings, len(train))
    training.fit(state, task.loss(), settings, train, validation, task=task)
    return network.eval()


def gated(network: nn.Module, train: Batches, validation: Batches, epochs: int) -> ftwt.Result:
    """The network with gates, trained on: gates alone, both, then the backbone alone."""
    task = tasks.Segmentation(CLASSES)
    return (
        ftwt.Pipeline(network, example=train[0][0][:1])
        .gate(gates.PooledLinear(normalize="layer", open=2.0))
        .target(targets.HeatmapMass(0.9))
        .loss(task.loss() + losses.GateBCE())
        .schedule(
            training.Phase("gates", epochs, train="gates"),
            training.Phase("both", epochs),
            training.Phase("backbone", epochs, train="backbone"),
            backbone=training.AdamW(5e-4),
            gates=training.Sgd(0.1),
        )
        .fit(train, validation, task=task)
    )


def main() -> None:
    """Train, gate, evaluate, skip and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    torch.manual_seed(0)
    train = scenes(asked.images, 32)
    validation, test = (scenes(asked.images // 8, 50, seed=seed) for seed in (1, 2))
    task = tasks.Segmentation(CLASSES)

    network = trained(UNet(), train, validation, asked.epochs)
    print("dense", training.evaluate(network, test, task=task).metrics)
    model = gated(network, train, validation, asked.epochs).model
    seen = training.evaluate(model, test, task=task)
    print("gated", seen.metrics, f"MAC reduction {seen.reduction_exact:.3f} exact")

    fast = runtime.skip(model, calibrate=test[0][0][:1])
    images = test[0][0][:8]
    with torch.inference_mode():
        print("skipping differs by", (fast(images) - model(images)).abs().max().item())
    from ftwt.reports.timing import bench

    for row in bench(network, model, images, batch=1, rounds=5)["rows"]:
        print(f"{row['name']:28s}{row['ms']:8.2f} ms")


if __name__ == "__main__":
    main()
