"""What kernels do together: a convolution, what follows on its planes, a gate's pooling."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ftwt import gates
from ftwt.graph.live import OfSite, Union
from ftwt.graph.sites import SiteShape
from ftwt.runtime import native, program
from ftwt.runtime.program import Value
from tests.native import reference
from tests.native.strategies import (
    Case,
    activations,
    batches,
    densities,
    keep_zero,
    seeds,
    working,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="the library is not built")


@pytest.fixture(params=native.binding.known_sets())
def _each_set(request):
    native.force(request.param)
    yield
    native.force(None)


class Block:
    """1x1, depthwise that follows, gate that pools, 1x1: the block of a narrow network."""

    def __init__(
        self,
        case: Case,
        size: tuple[int, int],
        widths: tuple[int, int, int],
        density: float = 0.7,
    ) -> None:
        self.case, self.steps = case, []
        given = case.input("x", (widths[0], *size), case.site("before", widths[0], density))
        # Memory of the segment's own, which later values may take over.
        self.last = Value("copy", given.shape, given.live)
        self.steps.append(program.Activate("copy", given, self.last, "silu"))

    def convolve(self, site, filters, kernel, stride, activation, groups=1) -> None:
        """A convolution whose site is decided already."""
        inputs, *size = self.last.shape
        space = [(n - 1) // stride + 1 for n in size]
        live = OfSite(site, filters)
        output = Value(f"{site}.out", (filters, *space), live)
        weight = self.case.normal(filters, inputs // groups, kernel, kernel)
        strides, pad = (stride, stride), (kernel // 2, kernel // 2)
        self.steps.append(
            program.Conv(
                site, self.last, output, weight / weight[0].numel() ** 0.5,
                self.case.normal(filters), strides, pad, (1, 1), groups, activation, site,
            )
        )  # fmt: skip
        self.last = output

    def follow(self, site: str) -> None:
        """A gate that takes over its input's mask."""
        width = self.last.shape[0]
        module = gates.Follow().build(SiteShape(site, width, width, 0, depthwise=True))
        self.steps.append(program.GateStep(site, self.last, module, width))

    def decide(self, site: str, filters: int, spec) -> torch.nn.Module:
        """A gate that decides."""
        module = spec.build(SiteShape(site, self.last.shape[0], filters, 0))
        for parameter in module.parameters():
            parameter.data = self.case.normal(*parameter.shape)
        self.steps.append(program.GateStep(site, self.last, module, filters))
        return module


@pytest.mark.usefixtures("_each_set")
@given(
    seed=seeds,
    batch=batches,
    size=st.tuples(st.integers(1, 37), st.integers(1, 37)),
    widths=st.tuples(st.sampled_from([1, 5, 16]), st.sampled_from([1, 9, 40]), st.just(7)),
    stride=st.integers(1, 3),
    kernel=st.sampled_from([3, 3, 5]),
    density=densities,
    active=st.tuples(activations, activations),
    pool=st.sampled_from(["max", "mean", "mean_std"]),
    read=st.sampled_from(["", "first", "second"]),
)
def test_blocks_of_narrow_networks(
    seed, batch, size, widths, stride, kernel, density, active, pool, read
):
    case = Case(seed, batch)
    block = Block(case, size, widths)
    case.site("wide", widths[1], density)
    block.convolve("wide", widths[1], 1, 1, active[0])
    first = block.last
    block.follow("deep")
    block.convolve("deep", widths[1], kernel, stride, active[1], groups=widths[1])
    second = block.last
    with torch.random.fork_rng():
        spec = gates.PooledLinear(pool, "none") if seed % 2 else gates.Bottleneck(3, pool, "layer")
        module = block.decide("narrow", widths[2], spec)
    block.convolve("narrow", widths[2], 1, 1, None)
    threshold = _threshold(case, block, module, second)
    outputs = [block.last, *([first] if read == "first" else [second] if read else [])]
    case.check(block.steps, outputs, {"narrow": threshold})


@given(
    seed=seeds,
    batch=batches,
    size=st.tuples(st.integers(1, 37), st.integers(1, 37)),
    widths=st.tuples(st.sampled_from([1, 8, 16]), st.sampled_from([1, 9, 40])),
    window=st.sampled_from([(1, 1), (1, 2), (3, 1), (3, 1), (3, 2)]),
    density=st.tuples(densities, densities, densities),
    active=st.tuples(activations, keep_zero),
    pool=st.sampled_from(["max", "mean", "mean_std"]),
    read=st.sampled_from(["", "convolution", "sum"]),
    threads=st.sampled_from([1, 1, 2]),
    instructions=st.sampled_from(native.binding.known_sets()),
)
def test_sums_of_a_convolution_and_a_shortcut(
    seed, batch, size, widths, window, density, active, pool, read, threads, instructions
):
    case = Case(seed, batch)
    block = Block(case, size, (widths[0], widths[1], 5), density[0])
    case.site("wide", widths[1], density[1])
    block.convolve("wide", widths[1], *window, active[0])
    convolved = block.last
    shortcut = case.input("y", convolved.shape, case.site("short", widths[1], density[2]))
    kept = Value("kept", shortcut.shape, shortcut.live)
    block.steps.insert(0, program.Activate("keep", shortcut, kept, "silu"))
    sources = (convolved, kept) if seed % 2 else (kept, convolved)
    block.last = added = Value("sum", kept.shape, Union((sources[0].live, sources[1].live)))
    block.steps.append(program.Add("add", sources, added, active[1]))
    with torch.random.fork_rng():
        module = block.decide("narrow", 5, gates.PooledLinear(pool, "none"))
    block.convolve("narrow", 5, 1, 1, None)
    threshold = _threshold(case, block, module, added)
    outputs = {"": [], "convolution": [convolved], "sum": [added]}[read]
    with working(threads), _forced(instructions):
        case.check(block.steps, [block.last, *outputs], {"narrow": threshold})


@contextmanager
def _forced(instructions: str) -> Iterator[None]:
    native.force(instructions)
    try:
        yield
    finally:
        native.force(None)


def _threshold(case, block, module, value) -> float:
    """In the widest gap between the logits, as sums go in another order."""
    at = next(i for i, one in enumerate(block.steps) if getattr(one, "site", "") == "narrow")
    values, _, _ = reference.run(block.steps[:at], case.given, case.masks, {})
    logits = module(values[value]).detach().flatten().sort().values
    gaps = logits.diff()
    assume(gaps.max() > 1e-2)
    place = int(gaps.argmax())
    return (logits[place] + logits[place + 1]).item() / 2
