"""Every other step of the native back end is torch's."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional as F

from ftwt import gates
from ftwt.graph.live import All, Concatenation, Intersection, OfSite, Reorder, Union
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
    sizes,
    working,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="the library is not built")


@given(
    seed=seeds,
    batch=batches,
    size=sizes,
    live=st.tuples(densities, densities),
    activation=keep_zero,
)
def test_add_and_multiply(seed, batch, size, live, activation):
    case = Case(seed, batch)
    one = case.input("one", (7, size, size), case.site("a", 7, live[0]))
    two = case.input("two", (7, size, size), case.site("b", 7, live[1]))
    scale = case.input("scale", (7, 1, 1), case.site("c", 7, live[0]))
    total = Value("sum", one.shape, Union((one.live, two.live)))
    product = Value("product", one.shape, Intersection((total.live, two.live)))
    scaled = Value("scaled", one.shape, Intersection((product.live, scale.live)))
    steps = [
        program.Add("add", (one, two), total, activation),
        program.Multiply("multiply", (total, two), product),
        program.Multiply("scale", (scale, product), scaled),
    ]
    case.check(steps, [total, product, scaled])


@given(seed=seeds, batch=batches, size=sizes, density=densities, stride=st.integers(1, 3))
def test_pick_concat_and_sets_of_them(seed, batch, size, density, stride):
    case = Case(seed, batch)
    source = case.input("x", (5, size, size), case.site("a", 5, density))
    index = (0, 3, 1, 0, 5, 2, 2)
    out = (size - 1) // stride + 1
    picked = Value("picked", (7, out, out), Reorder(source.live, index))
    both = Value("both", (14, out, out), Concatenation((picked.live, picked.live)))
    steps = [
        program.Pick("pick", source, picked, index, (stride, stride)),
        program.Concat("concat", (picked, picked), both),
    ]
    case.check(steps, [both])


@given(seed=seeds, batch=batches, size=sizes, density=densities, activation=activations)
def test_affine_mask_and_activate(seed, batch, size, density, activation):
    case = Case(seed, batch)
    source = case.input("x", (6, size, size), case.site("a", 6, density))
    moved = Value("moved", source.shape, All(6))
    masked = Value("masked", source.shape, case.site("b", 6, density))
    active = Value("active", source.shape, All(6))
    steps = [
        program.Affine("bn", source, moved, case.normal(6), case.normal(6), activation),
        program.MaskStep("mask", moved, masked, "b"),
        program.Activate("act", masked, active, "sigmoid"),
    ]
    case.check(steps, [moved, masked, active])


@given(
    seed=seeds,
    batch=batches,
    size=st.tuples(sizes, sizes),
    density=densities,
    kind=st.sampled_from(["max", "mean", "max to the end"]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
)
def test_pooling(seed, batch, size, density, kind, kernel, stride):
    case = Case(seed, batch)
    source = case.input("x", (5, *size), case.site("a", 5, density))
    padding = kernel // 2
    assume(min(size) + 2 * padding >= kernel)
    ceil = kind == "max to the end"
    window = ((kernel, kernel), (stride, stride), (padding, padding))
    made = F.max_pool2d(torch.zeros(1, *size), *window, ceil_mode=ceil)
    space = tuple(made.shape[1:])
    pool = program.Pool(kind.split()[0], *window, ceil)
    pooled = Value("pooled", (5, *space), source.live)
    mean = Value("mean", (5, 1, 1), source.live)
    flat = Value("flat", (5,), source.live)
    steps = [
        program.Pooling("pool", source, pooled, pool),
        program.Pooling("mean", source, mean, None),
        program.Pooling("flat", pooled, flat, None),
    ]
    case.check(steps, [pooled, mean, flat])


@given(
    seed=seeds,
    batch=batches,
    outputs=st.sampled_from([1, 10, 130, 300]),
    density=densities,
    activation=activations,
)
def test_linear(seed, batch, outputs, density, activation):
    case = Case(seed, batch)
    source = case.input("x", (37,), case.site("a", 37, density))
    output = Value("y", (outputs,), All(outputs))
    weight, bias = case.normal(outputs, 37), case.normal(outputs)
    step = program.Linear("fc", source, source.live, output, weight, bias, activation)
    case.check([step], [output])


@given(seed=seeds, batch=batches, size=st.integers(1, 5), density=densities)
def test_linear_over_planes(seed, batch, size, density):
    case = Case(seed, batch)
    source = case.input("x", (3, size, size), case.site("a", 3, density))
    output = Value("y", (4,), All(4))
    index = tuple(1 + c for c in range(3) for _ in range(size * size))
    inputs = Reorder(source.live, index)
    weight = case.normal(4, 3 * size * size)
    step = program.Linear("fc", source, inputs, output, weight, case.normal(4))
    case.check([step], [output])


@given(
    seed=seeds,
    batch=batches,
    size=sizes,
    channels=st.tuples(st.sampled_from([1, 5, 16, 40, 210]), st.sampled_from([1, 7, 140])),
    density=st.one_of(densities, st.just(0.9)),
    pool=st.sampled_from(["max", "mean", "mean_std"]),
    normalize=st.sampled_from(["softmax", "layer", "none"]),
    rank=st.sampled_from([None, 1, 9, 20]),
    place=st.floats(0.05, 0.95),
)
def test_gates(seed, batch, size, channels, density, pool, normalize, rank, place):
    inputs, outputs = channels
    case = Case(seed, batch)
    source = case.input("x", (inputs, size, size), case.site("a", inputs, density))
    shape = SiteShape("gated", inputs, outputs, 0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        spec = (
            gates.PooledLinear(pool, normalize)
            if rank is None
            else gates.Bottleneck(rank, pool, normalize)
        )
        module = spec.build(shape)
    for parameter in module.parameters():
        parameter.data = case.normal(*parameter.shape)
    logits = module(case.given[source]).detach()
    # Among the logits, so that a small error of one shows in its mask; but not on one, as rounding
    # may flip that.
    threshold = logits.quantile(place).item()
    if (logits - threshold).abs().min() < 1e-5:
        threshold += 2e-4
    assume((logits - threshold).abs().min() >= 1e-5)
    output = Value("y", (outputs, size, size), OfSite("gated", outputs))
    steps = [
        program.GateStep("gated", source, module, outputs),
        program.Conv(
            "conv",
            source,
            output,
            case.normal(outputs, inputs, 1, 1),
            case.normal(outputs),
            (1, 1),
            (0, 0),
            (1, 1),
            1,
            "relu",
            "gated",
        ),
    ]
    case.check(steps, [output], {"gated": threshold})


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (3, 1), (70, 1), (5, 2)])
def test_gates_of_tables(batch, threads):
    case = Case(0, batch)
    source = case.input("x", (4, 3, 3), All(4))
    shape = SiteShape("s", 4, 10, 0)
    output = Value("y", (10, 3, 3), OfSite("s", 10))
    for spec in (gates.Random(0.4), gates.Fixed({"s": [True, False] * 5})):
        steps = [
            program.GateStep("s", source, spec.build(shape), 10),
            program.Conv(
                "conv",
                source,
                output,
                case.normal(10, 4, 3, 3),
                case.normal(10),
                (1, 1),
                (1, 1),
                (1, 1),
                1,
                "relu",
                "s",
            ),
        ]
        with working(threads):
            case.check(steps, [output])
            case.check(steps, [output], {"s": 1.0})  # above every logit of a table


def test_logits_that_are_not_numbers_run_their_filters():
    case = Case(0, 1)
    source = case.input("x", (4, 3, 3), All(4))
    case.given[source][0, 1, 1, 1] = float("nan")
    module = gates.PooledLinear().build(SiteShape("s", 4, 10, 0))
    output = Value("y", (10, 3, 3), OfSite("s", 10))
    steps = [
        program.GateStep("s", source, module, 10),
        program.Conv(
            "conv",
            source,
            output,
            case.normal(10, 4, 1, 1),
            case.normal(10),
            (1, 1),
            (0, 0),
            (1, 1),
            1,
            None,
            "s",
        ),
    ]
    segment = native.Segment(steps, [source], [output], 1)
    made, masks = segment.run(case.given, {})
    assert masks["s"].all()  # so that the output shows it
    assert made[output][:, :, 1, 1].isnan().all()


@given(
    seed=seeds,
    size=sizes,
    activation=activations,
    pool=st.sampled_from([None, "max", "mean"]),
    kernel=st.sampled_from([1, 3]),
    groups=st.sampled_from([1, 4]),
)
def test_what_is_not_a_number_stays(seed, size, activation, pool, kernel, groups):
    case = Case(seed, 2)
    source = case.input("x", (4, size, size), All(4))
    space = case.given[source].view(2, 4, -1)
    generator = torch.Generator().manual_seed(seed)
    sample = int(torch.randint(2, (1,), generator=generator))
    channel = int(torch.randint(4, (1,), generator=generator))
    place = int(torch.randint(space.shape[2], (1,), generator=generator))
    space[sample, channel, place] = float("nan")
    made = Value("y", (8, size, size), All(8))
    pooled = Value("pooled", (8, size, size), All(8))
    active = Value("active", (8, size, size), All(8))
    window = program.Pool(pool, (3, 3), (1, 1), (1, 1)) if pool else None
    conv = program.Conv(
        "conv",
        source,
        made,
        case.normal(8, 4 // groups, kernel, kernel),
        case.normal(8),
        (1, 1),
        (kernel // 2, kernel // 2),
        (1, 1),
        groups,
        activation,
        None,
        window,
    )
    apart = program.Pooling("pool", made, pooled, program.Pool("max", (3, 3), (1, 1), (1, 1)))
    steps = [conv, apart, program.Activate("act", pooled, active, "relu")]
    outputs = [made, pooled, active]
    got, _ = native.Segment(steps, [source], outputs, 2).run(case.given, {})
    expected, _, _ = reference.run(steps, case.given, {}, {})
    for value in outputs:
        assert torch.equal(got[value].isnan(), expected[value].isnan())


@pytest.mark.parametrize(("width", "fits"), [(2047, True), (2048, True), (2049, False)])
def test_pools_of_rows_that_do_not_fit_are_left_to_torch(width, fits):
    case = Case(0, 1)
    source = case.input("x", (2, 3, width), All(2))
    window = program.Pool("max", (1, 2), (1, 1))
    pooled = Value("pooled", (2, 3, width - 1), All(2))
    alone = program.Pooling("pool", source, pooled, window)
    weight, bias = case.normal(2, 2, 1, 1), case.normal(2)
    one, none = (1, 1), (0, 0)
    conv = program.Conv("conv", source, pooled, weight, bias, one, none, one, 1, None, None, window)
    for step in (alone, conv):
        assert native.supports(step) == fits
        if fits:
            case.check([step], [pooled])
