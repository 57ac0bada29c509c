"""Times the native convolution of each kind of layer against torch's, sliced beforehand.

For each layer and density: milliseconds of the native step (each sample its own random filters and
inputs) and of `F.conv2d` on a convolution that was physically cut to the same numbers of channels,
which is what skipping can reach at best. Interleaved; the best of several runs, as others on the
machine only ever add time.

    python -m benchmarks.kernels [--batch 1] [--density 0.5 0.25] [--threads 2] [--only NAME]
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ftwt.graph.live import OfSite
from ftwt.runtime import native, program
from ftwt.runtime.program import Value


class Layer(NamedTuple):
    """A convolution of one of the networks that the runtime is measured on."""

    name: str
    inputs: int
    filters: int
    size: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1


LAYERS = (
    Layer("vgg-64@32", 64, 64, 32),
    Layer("vgg-128@16", 128, 128, 16),
    Layer("vgg-256@8", 256, 256, 8),
    Layer("vgg-512@4", 512, 512, 4),
    Layer("vgg-512@2", 512, 512, 2),
    Layer("r56-16@32", 16, 16, 32),
    Layer("r56-32@16", 32, 32, 16),
    Layer("r56-64@8", 64, 64, 8),
    Layer("r56-32@16/2", 16, 32, 32, 3, 2),
    Layer("r18-stem", 3, 64, 224, 7, 2),
    Layer("r18-64@56", 64, 64, 56),
    Layer("r18-128@28", 128, 128, 28),
    Layer("r18-128@28/2", 64, 128, 56, 3, 2),
    Layer("r18-256@14", 256, 256, 14),
    Layer("r18-512@7", 512, 512, 7),
    Layer("r18-512@7/2", 256, 512, 14, 3, 2),
    Layer("m1-64@32", 64, 128, 16, 1),
    Layer("m1-512@4", 512, 512, 4, 1),
    Layer("m1-1024@2", 1024, 1024, 2, 1),
    Layer("m1-dw-128@16", 128, 128, 16, 3, 1, 128),
    Layer("m1-dw-512@4", 512, 512, 4, 3, 1, 512),
    Layer("m2-96@56", 24, 144, 56, 1),
    Layer("m2-576@14", 96, 576, 14, 1),
    Layer("m2-96@14", 576, 96, 14, 1),
    Layer("m2-1280@7", 320, 1280, 7, 1),
    Layer("m2-dw-144@56", 144, 144, 56, 3, 1, 144),
    Layer("m2-dw-144@56/2", 144, 144, 56, 3, 2, 144),
    Layer("m2-dw-576@14", 576, 576, 14, 3, 1, 576),
)


class Native:
    """A layer between two steps, so that its planes are a segment's own."""

    def __init__(self, layer: Layer, batch: int, density: float) -> None:
        generator = torch.Generator().manual_seed(0)
        masks = {
            "in": _mask(batch, layer.inputs, density, generator),
            "out": _mask(batch, layer.filters, density, generator),
        }
        if layer.groups > 1:
            masks["out"] = masks["in"]
        source = Value("x", (layer.inputs, layer.size, layer.size), OfSite("in", layer.inputs))
        copied = Value("copy", source.shape, source.live)
        out = _size(layer)
        made = Value("y", (layer.filters, out, out), OfSite("out", layer.filters))
        pooled = Value("pooled", (layer.filters,), made.live)
        weight = torch.randn(
            layer.filters, layer.inputs // layer.groups, layer.kernel, layer.kernel
        )
        self.conv = program.Conv(
            "conv",
            copied,
            made,
            weight,
            torch.zeros(layer.filters),
            (layer.stride, layer.stride),
            (layer.kernel // 2, layer.kernel // 2),
            (1, 1),
            layer.groups,
            "relu",
            "out",
        )
        steps: list[program.Step] = [
            program.Pick("copy", source, copied, tuple(range(1, layer.inputs + 1))),
            self.conv,
            program.Pooling("pool", made, pooled, None),
        ]
        self.segment = native.Segment(steps, [source], [pooled], batch)
        images = torch.randn(batch, *source.shape) * masks["in"][:, :, None, None]
        self.arguments = {source: images}, masks

    def __call__(self) -> float:
        """Milliseconds of the convolution."""
        times: dict[program.Step, float] = {}
        self.segment.run(*self.arguments, times=times)
        return times[self.conv]


class Sliced:
    """Torch's convolution of so many channels."""

    def __init__(self, layer: Layer, batch: int, density: float) -> None:
        inputs, filters = _kept(layer.inputs, density), _kept(layer.filters, density)
        groups = inputs if layer.groups > 1 else 1
        size = (filters, inputs // groups, layer.kernel, layer.kernel)
        self.weight, self.bias = torch.randn(size), torch.zeros(filters)
        self.images = torch.randn(batch, inputs, layer.size, layer.size)
        self.stride, self.padding, self.groups = layer.stride, layer.kernel // 2, groups

    def __call__(self) -> float:
        """Milliseconds of convolution and activation."""
        begin = time.perf_counter()
        self.run()
        return (time.perf_counter() - begin) * 1e3

    def run(self) -> Tensor:
        """Convolve and activate."""
        return F.conv2d(
            self.images, self.weight, self.bias, self.stride, self.padding, 1, self.groups
        ).relu_()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--density", type=float, nargs="+", default=[0.5, 0.25])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"batch {options.batch}, {options.threads} threads, {native.instruction_set()}")
    print(f"{'layer':16}" + "".join(f"{d:>8} sliced  native ratio GMAC/s" for d in options.density))
    for layer in LAYERS:
        if options.only in layer.name:
            cells = [_cell(layer, options.batch, d, options.repeats) for d in options.density]
            print(f"{layer.name:16}" + "".join(cells), flush=True)


def _cell(layer: Layer, batch: int, density: float, repeats: int) -> str:
    with torch.inference_mode():
        sides: tuple[Callable[[], float], ...] = (
            Sliced(layer, batch, density),
            Native(layer, batch, density),
        )
        seen: tuple[list[float], list[float]] = [], []
        for _ in range(repeats):
            for side, times in zip(sides, seen, strict=True):
                side()
                times.append(side())
        sliced, ours = (min(times) for times in seen)
    macs = batch * _kept(layer.inputs, density) * _kept(layer.filters, density)
    macs = macs * layer.kernel**2 * _size(layer) ** 2
    if layer.groups > 1:
        macs //= _kept(layer.inputs, density)
    return f"{sliced:15.3f}{ours:8.3f}{sliced / ours:6.2f}{macs / ours / 1e6:7.1f}"


def _mask(batch: int, channels: int, density: float, generator: torch.Generator) -> Tensor:
    order = torch.rand(batch, channels, generator=generator).argsort(1).argsort(1)
    return order < _kept(channels, density)


def _kept(channels: int, density: float) -> int:
    return max(1, round(channels * density)) if channels > 3 else channels


def _size(layer: Layer) -> int:
    return (layer.size - 1) // layer.stride + 1


if __name__ == "__main__":
    main()
