"""The native convolution is torch's, on live inputs and for active filters only."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ftwt.graph.live import All
from ftwt.runtime import native, program
from ftwt.runtime.program import Value
from tests.native.strategies import Case, activations, batches, densities, seeds, sizes

pytestmark = pytest.mark.skipif(not native.available(), reason="the library is not built")


def output_size(n: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@pytest.fixture(params=native.binding.known_sets())
def _each_set(request):
    native.force(request.param)
    yield
    native.force(None)


pools = st.one_of(
    st.none(),
    st.builds(
        lambda kind, kernel, stride, padding: program.Pool(
            kind,
            (kernel, kernel),
            (stride, stride),
            (min(padding, kernel // 2), min(padding, kernel // 2)),
        ),
        st.sampled_from(["max", "mean"]),
        st.integers(1, 3),
        st.integers(1, 3),
        st.integers(0, 1),
    ),
)


@pytest.mark.usefixtures("_each_set")
@given(
    seed=seeds,
    batch=batches,
    size=st.tuples(sizes, sizes),
    window=st.tuples(
        st.sampled_from([(1, 1), (3, 3), (5, 5), (7, 7), (2, 3), (1, 7)]),
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        st.integers(0, 3),
        st.integers(1, 2),
    ),
    shape=st.sampled_from(
        [(1, 1, 1), (3, 20, 1), (17, 9, 1), (40, 33, 1), (8, 8, 8), (5, 15, 5), (12, 18, 3)]
    ),
    live=st.tuples(densities, densities),
    activation=activations,
    pool=pools,
    inside=st.booleans(),
)
def test_as_torch(seed, batch, size, window, shape, live, activation, pool, inside):
    kernel, stride, padding, dilation = window
    inputs, filters, groups = shape
    made = tuple(
        output_size(n, k, s, padding, dilation)
        for n, k, s in zip(size, kernel, stride, strict=True)
    )
    assume(min(made) >= 1)
    result = made
    if pool is not None:
        result = tuple(
            output_size(n, k, s, p, 1)
            for n, k, s, p in zip(made, pool.kernel, pool.stride, pool.padding, strict=True)
        )
        assume(min(result) >= 1)
    case = Case(seed, batch)
    source = case.input("x", (inputs, *size), case.site("before", inputs, live[0]))
    steps = []
    if inside:  # planes of the segment's own are laid out otherwise than tensors from outside
        copy = Value("copy", source.shape, source.live)
        steps.append(program.Activate("copy", source, copy, "relu"))
        source = copy
    output = Value("y", (filters, *result), case.site("here", filters, live[1]))
    steps.append(
        program.Conv(
            "conv",
            source,
            output,
            case.normal(filters, inputs // groups, *kernel),
            case.normal(filters),
            stride,
            (padding, padding),
            (dilation, dilation),
            groups,
            activation,
            "here",
            pool,
        )
    )
    case.check(steps, [output])


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
