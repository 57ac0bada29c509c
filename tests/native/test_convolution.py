"""The native convolution is torch's, on live inputs and for active filters only."""

import math
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ftwt.graph.live import All
from ftwt.runtime import native, program
from ftwt.runtime.native.winograd import halves
from ftwt.runtime.program import Value
from tests.native.strategies import (
    Case,
    activations,
    batches,
    densities,
    seeds,
    sizes,
    working,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="the library is not built")


def output_size(n: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@pytest.fixture(params=native.binding.known_sets())
def _each_set(request):
    native.force(request.param)
    yield
    native.force(None)


class Axis(NamedTuple):
    """A window along one dimension of space."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    def output(self, n: int) -> int:
        return output_size(n, self.kernel, self.stride, self.padding, self.dilation)


@st.composite
def axes(draw, n: int) -> Axis:
    """Any window that fits into `n` positions, padded."""
    padding = draw(st.integers(0, 4))
    room = n + 2 * padding
    kernel = draw(st.sampled_from([one for one in (1, 3, 2, 4, 5, 7, 9) if one <= room]))
    widest = 3 if kernel == 1 else min(3, (room - 1) // (kernel - 1))
    return Axis(kernel, draw(st.integers(1, 4)), padding, draw(st.integers(1, widest)))


@st.composite
def pool_axes(draw, n: int) -> Axis:
    kernel = draw(st.integers(1, min(3, n)))
    return Axis(kernel, draw(st.integers(1, 3)), draw(st.integers(0, kernel // 2)), 1)


@st.composite
def poolings(draw, size: list[int]) -> program.Pool | None:
    kind = draw(st.sampled_from([None, "max", "mean"]))
    if kind is None:
        return None
    kernel, stride, padding, _ = zip(*(draw(pool_axes(n)) for n in size), strict=True)
    return program.Pool(kind, kernel, stride, padding)


class Chain:
    """Convolutions after each other, whose memory one has from another."""

    def __init__(self, case: Case, size: tuple[int, int], channels: int, density: float) -> None:
        self.case, self.steps = case, []
        live = case.site("before", channels, density)
        self.last = case.input("x", (channels, *size), live)

    def add(self, window, groups: int, filters: int, activation, pool, density: float) -> None:
        """A convolution of so many filters in each of `groups` groups."""
        inputs, *size = self.last.shape
        made = [one.output(n) for one, n in zip(window, size, strict=True)]
        if pool is not None:
            made = map(output_size, made, pool.kernel, pool.stride, pool.padding)
        kernel, stride, padding, dilation = zip(*window, strict=True)
        per_group, name, case = inputs // groups, f"conv{len(self.steps)}", self.case
        filters *= groups
        live = case.site(name, filters, density)
        output = Value(f"{name}.out", (filters, *made), live)
        weight = case.normal(filters, per_group, *kernel) / (per_group * math.prod(kernel)) ** 0.5
        where = stride, padding, dilation, groups
        self.steps.append(
            program.Conv(
                name,
                self.last,
                output,
                weight,
                case.normal(filters),
                *where,
                activation,
                name,
                pool,
            )
        )
        self.last = output


def divisors(n: int) -> list[int]:
    return [one for one in range(1, n + 1) if n % one == 0]


@pytest.mark.usefixtures("_each_set")
@given(
    seed=seeds,
    batch=batches,
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from([1, 3, 4, 8, 12, 17, 40]),
    layers=st.integers(1, 3),
    density=densities,
    data=st.data(),
)
def test_as_torch(seed, batch, size, channels, layers, density, data):
    """Any kernel, stride, padding, dilation, groups and size, after any other."""
    chain = Chain(Case(seed, batch), size, channels, density)
    for _ in range(layers):
        inputs, *size = chain.last.shape
        groups = data.draw(st.sampled_from(divisors(inputs)), "groups")
        window = [data.draw(axes(n), "window") for n in size]
        made = [one.output(n) for one, n in zip(window, size, strict=True)]
        chain.add(
            window,
            groups,
            data.draw(st.integers(1, max(1, 36 // groups)), "filters of a group"),
            data.draw(activations, "activation"),
            data.draw(poolings(made), "pool"),
            data.draw(densities, "density"),
        )
    chain.case.check(chain.steps, [chain.last])


@pytest.mark.usefixtures("_each_set")
@pytest.mark.parametrize(
    ("size", "window"),
    [
        ((32, 101), [Axis(1, 2, 0, 1), Axis(3, 1, 1, 1)]),
        ((5, 5), [Axis(1, 3, 1, 1), Axis(3, 1, 2, 1)]),
        ((17, 9), [Axis(3, 2, 2, 2), Axis(5, 1, 2, 1)]),
    ],
)
def test_rows_that_no_window_reads(size, window):
    """What an earlier step left in their place is not taken for the zeros beside a row."""
    chain = Chain(Case(0, 1), size, 3, 1.0)
    chain.add([Axis(3, 1, 1, 1)] * 2, 1, 8, "relu", None, 1.0)
    chain.add(window, 1, 8, "relu", None, 1.0)
    chain.case.check(chain.steps, [chain.last])


@given(seed=seeds, batch=batches, size=sizes, density=densities)
def test_without_a_site_all_filters_run(seed, batch, size, density):
    case = Case(seed, batch)
    source = case.input("x", (6, size, size), case.site("before", 6, density))
    output = Value("y", (11, size, size), All(11))
    step = program.Conv(
        "conv",
        source,
        output,
        case.normal(11, 6, 3, 3),
        case.normal(11),
        (1, 1),
        (1, 1),
        (1, 1),
        1,
        "relu",
        None,
    )
    case.check([step], [output])


@pytest.mark.parametrize("size", [1, 2, 4, 7, 8, 14, 33, 56])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("filters", [1, 5, 8, 13, 70])
@pytest.mark.usefixtures("_each_set")
def test_every_kernel_shape(size, kernel, filters):
    """Each number of filters and of vectors has a kernel of its own."""
    case = Case(size * 100 + filters, 2)
    source = case.input("x", (9, size, size), case.site("before", 9, 0.5))
    copy = Value("copy", source.shape, source.live)
    output = Value("y", (filters, size, size), case.site("here", filters, 0.7))
    padding = kernel // 2
    steps = [
        program.Activate("copy", source, copy, "silu"),
        program.Conv(
            "conv",
            copy,
            output,
            case.normal(filters, 9, kernel, kernel),
            case.normal(filters),
            (1, 1),
            (padding, padding),
            (1, 1),
            1,
            None,
            "here",
        ),
    ]
    case.check(steps, [output])


def plain_3x3(case: Case, size: tuple[int, int], channels: int, filters: int, **kwargs):
    """A 3x3 convolution as Winograd's algorithm takes it, and its output."""
    live = [case.site(name, n, kwargs[name]) for name, n in (("in", channels), ("out", filters))]
    pool = kwargs.get("pool")
    made = [n // 2 for n in size] if pool else size
    weight = case.normal(filters, channels, 3, 3) / (9 * channels) ** 0.5
    output = Value("y", (filters, *made), live[1])
    ones, activation = (1, 1), kwargs.get("activation")
    return program.Conv(
        "conv", case.input("x", (channels, *size), live[0]), output, weight, case.normal(filters),
        ones, ones, ones, 1, activation, "out", pool,
    ), output  # fmt: skip


@pytest.mark.usefixtures("_each_set")
@given(
    seed=seeds,
    batch=batches,
    size=st.tuples(st.integers(7, 40), st.integers(7, 40)),
    channels=st.sampled_from([8, 9, 17, 40]),
    filters=st.integers(8, 36),
    pool=st.sampled_from([None, program.Pool("max", (2, 2), (2, 2), (0, 0))]),
    activation=activations,
    densities=st.tuples(densities, densities),
    threads=st.integers(1, 3),
)
def test_winograd_as_torch(
    seed, batch, size, channels, filters, pool, activation, densities, threads
):
    """Any plane and any part of inputs and filters, where half of the products are left out."""
    case, (before, here) = Case(seed, batch), densities
    parts = {"in": before, "out": here, "pool": pool, "activation": activation}
    step, output = plain_3x3(case, size, channels, filters, **parts)
    assert halves(step, batch)
    with working(threads):
        case.check([step], [output])


@pytest.mark.usefixtures("_each_set")
@pytest.mark.parametrize(("size", "channels"), [(32, 8), (14, 64), (8, 200)])
def test_winograd_rounds_little(size, channels):
    """By less than 24 units in the last place of the sum of all products' sizes; direct by 8."""
    case = Case(channels, 1)
    step, output = plain_3x3(case, (size, size), channels, 32, **{"in": 1.0, "out": 1.0})
    (source,) = case.given.values()
    exact, sizes = (
        F.conv2d(one.double(), weight.double(), bias.double(), padding=1)
        for one, weight, bias in (
            (source, step.weight, step.bias),
            (source.abs(), step.weight.abs(), step.bias.abs()),
        )
    )
    for winograd, units in ((True, 24), (False, 8)):
        segment = native.Segment([step], list(case.given), [output], 1, winograd=winograd)
        made, _ = segment.run(case.given, case.masks)
        assert (made[output] - exact).abs().max() <= units * 2**-24 * sizes.max()


def test_reading_more_weights_must_pay():
    """Planes of few positions keep their weights, until a batch has enough of them."""
    step, _ = plain_3x3(Case(0, 1), (7, 7), 640, 640, **{"in": 1.0, "out": 1.0})
    assert [halves(step, batch) for batch in (1, 2, 4)] == [False, True, True]
