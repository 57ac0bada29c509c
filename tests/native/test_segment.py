"""A segment as a whole: borders, threads, processes, memory, bad input."""

import gc
import os
import threading
from pathlib import Path

import pytest
import torch

from ftwt import FtwtError, gates
from ftwt.graph.live import All, OfSite, Union
from ftwt.graph.sites import SiteShape
from ftwt.runtime import native, program
from ftwt.runtime.native import binding
from ftwt.runtime.native.placement import Lifetime, place
from ftwt.runtime.program import Value
from tests.native.strategies import Case, working
from tests.small import refused

built = pytest.mark.skipif(not native.available(), reason="the library is not built")


def residual(case: Case, channels: int = 24, size: int = 9) -> tuple[list, list[Value]]:
    """Two gated convolutions with a sum after them."""
    source = case.input("x", (channels, size, size), All(channels))
    steps, at = [], source
    for name in ("one", "two"):
        module = gates.PooledLinear(normalize="layer").build(SiteShape(name, channels, channels, 0))
        steps.append(program.GateStep(name, at, module, channels))
        made = Value(f"{name}.out", source.shape, OfSite(name, channels))
        steps.append(
            program.Conv(
                name,
                at,
                made,
                case.normal(channels, channels, 3, 3) / 15,
                case.normal(channels),
                (1, 1),
                (1, 1),
                (1, 1),
                1,
                "relu",
                name,
            )
        )
        at = made
    total = Value("sum", source.shape, Union((OfSite("one", channels), at.live)))
    steps.append(program.Add("add", (steps[1].output, at), total, "relu"))
    mean = Value("mean", (channels,), total.live)
    steps.append(program.Pooling("mean", total, mean, None))
    return steps, [total, mean]


@built
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_chain(threads, batch):
    torch.manual_seed(0)
    with working(threads):
        case = Case(batch, batch)
        case.check(*residual(case))


@built
def test_other_layouts_of_the_input_are_taken():
    torch.manual_seed(0)
    case = Case(0, 2)
    steps, outputs = residual(case)
    (source,) = case.given
    segment = native.Segment(steps, [source], outputs, 2)
    expected, _ = segment.run(case.given, {})
    for other in (
        case.given[source].to(memory_format=torch.channels_last),
        torch.cat([case.given[source]] * 2, 3)[..., :9],
    ):
        assert not other.is_contiguous()
        made, _ = segment.run({source: other}, {})
        for value in outputs:
            assert torch.equal(made[value], expected[value])


@built
def test_python_threads_run_one_segment_at_once():
    torch.manual_seed(0)
    case = Case(0, 2)
    steps, outputs = residual(case)
    (source,) = case.given
    segment = native.Segment(steps, [source], outputs, 2)
    images = [case.normal(2, *source.shape) for _ in range(4)]
    expected = [segment.run({source: one}, {})[0] for one in images]
    wrong: list[int] = []

    def work(which: int) -> None:
        for _ in range(50):
            made, _ = segment.run({source: images[which]}, {})
            if not all(torch.equal(made[v], expected[which][v]) for v in outputs):
                wrong.append(which)

    workers = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@built
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_as_many_threads_work_as_are_asked_for(threads):
    # Outputs are the same on one thread: only this tells whether the others were found.
    assert binding.team_size(threads) == threads


@built
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads, on purpose
def test_a_forked_child_computes_alone():
    torch.manual_seed(0)
    with working(2):
        case = Case(0, 1)
        steps, outputs = residual(case)
        segment = native.Segment(steps, list(case.given), outputs, 1)
        expected, _ = segment.run(case.given, {})
        child = os.fork()
        if child == 0:
            made, _ = segment.run(case.given, {})
            os._exit(0 if all(torch.equal(made[v], expected[v]) for v in outputs) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@built
def test_ten_thousand_calls_leak_nothing():
    torch.manual_seed(0)
    case = Case(0, 1)
    steps, outputs = residual(case, channels=8, size=4)
    segment = native.Segment(steps, list(case.given), outputs, 1)

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    for _ in range(1000):
        segment.run(case.given, {})
    gc.collect()
    before = resident()
    for _ in range(10_000):
        segment.run(case.given, {})
    gc.collect()
    assert resident() - before < 4 * 2**20


@built
def test_segments_give_their_memory_back():
    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    torch.manual_seed(0)
    case = Case(0, 4)
    steps, outputs = residual(case, size=64)
    for round_number in range(40):
        native.Segment(steps, list(case.given), outputs, 4).run(case.given, {})
        if round_number == 10:
            before = resident()
    gc.collect()
    assert resident() - before < 16 * 2**20


@built
def test_times_are_given_for_each_step():
    torch.manual_seed(0)
    case = Case(0, 1)
    steps, outputs = residual(case)
    times: dict = {}
    native.Segment(steps, list(case.given), outputs, 1).run(case.given, {}, times=times)
    assert list(times) == steps
    assert all(time >= 0 for time in times.values())
    assert 0 < sum(times.values()) < 10_000


@built
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:1], r"'x' is torch.float32 \(1, 24, 9, 9\)"),
        (lambda x: x[:, :3], r"this segment takes torch.float32 \(2, 24, 9, 9\) on the CPU"),
        (lambda x: x.double(), "'x' is torch.float64"),
        (lambda x: x.to("meta"), "on meta"),
        (lambda x: None, "nothing was given for 'x'"),
    ],
)
def test_bad_inputs(change, message):
    torch.manual_seed(0)
    case = Case(0, 2)
    steps, outputs = residual(case)
    segment = native.Segment(steps, list(case.given), outputs, 2)
    (source,) = case.given
    refused(message, segment.run, {source: change(case.given[source])}, {})


@built
def test_bad_masks():
    case = Case(0, 2)
    source = case.input("x", (4, 2, 2), case.site("a", 4, 0.5))
    output = Value("y", source.shape, source.live)
    segment = native.Segment([program.Activate("r", source, output, "relu")], [source], [output], 2)
    assert segment.needs == ("a",)
    refused("nothing was given for 'a'", segment.run, case.given, {})
    refused(r"'a' is torch.bool \(2, 3\)", segment.run, case.given, {"a": case.masks["a"][:, :3]})


@built
def test_steps_that_contradict_each_other():
    case = Case(0, 2)
    source = case.input("x", (4, 5, 5), All(4))
    output = Value("y", (4, 9, 9), All(4))
    step = program.Conv(
        "conv",
        source,
        output,
        case.normal(4, 4, 3, 3),
        case.normal(4),
        (1, 1),
        (1, 1),
        (1, 1),
        1,
        None,
        None,
    )
    segment = native.Segment([step], [source], [output], 2)
    refused("contradict each other", segment.run, case.given, {})


@built
def test_unsupported_steps():
    case = Case(0, 2)
    source = case.input("x", (4, 5), All(4))
    call = program.Call("erf", torch.erf, (source,), {}, Value("y", source.shape, All(4)))
    assert not native.supports(call)
    with pytest.raises(FtwtError, match=r"step 'erf' \(Call\) is not supported"):
        native.Segment([call], [source], [call.output], 2)
    double = program.Affine(
        "bn", source, call.output, torch.ones(4).double(), torch.zeros(4).double()
    )
    assert not native.supports(double)


@built
def test_instruction_sets():
    assert native.instruction_set() == native.binding.known_sets()[0]
    native.force("portable")
    try:
        assert native.instruction_set() == "portable"
    finally:
        native.force(None)
    refused("'neon' is not among", native.force, "neon")


@built
def test_the_variable_chooses_a_set(monkeypatch):
    monkeypatch.setenv("FTWT_NATIVE_SET", "portable")
    assert native.instruction_set() == "portable"
    monkeypatch.setenv("FTWT_NATIVE_SET", "neon")
    refused("FTWT_NATIVE_SET", native.instruction_set)


def test_without_the_library_nothing_is_supported(monkeypatch):
    monkeypatch.setattr(native.binding, "load_library", lambda: None)
    value = Value("x", (4, 5, 5), All(4))
    step = program.Activate("r", value, Value("y", value.shape, All(4)), "relu")
    assert not native.available()
    assert native.instruction_set() is None
    assert not native.supports(step)


def test_places_do_not_overlap_in_time():
    lives = [Lifetime(100, 0, 2), Lifetime(30, 1, 1), Lifetime(100, 3, 4), Lifetime(60, 2, 3)]
    offsets, total = place(lives)
    for i, one in enumerate(lives):
        for j, two in enumerate(lives[:i]):
            apart = one.last < two.first or two.last < one.first
            before = offsets[i] + one.size <= offsets[j] or offsets[j] + two.size <= offsets[i]
            assert apart or before, (i, j)
    assert total < sum(life.size for life in lives)
