"""Many runs by any executor: the same table wherever they are computed, and a line for losses."""

from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import hypothesis.strategies as st
import pytest
from hypothesis import given

import ftwt
from ftwt.budget import executors
from tests.command_line import ftwt_command, make_folder, make_weights  # noqa: F401 - a fixture


@given(st.lists(st.integers(0, 20), max_size=6, unique=True), st.booleans())
def test_each_job_is_done_or_named_once(numbers, threads):
    def work(number):
        if number % 3 == 0:
            raise ftwt.FtwtError(f"{number} divides")

    jobs = {number: f"job {number}" for number in numbers}
    done = []
    with ThreadPoolExecutor(2) if threads else executors.Here() as pool:
        failed = executors.run_all(pool, work, jobs, done.append)
    assert sorted(done) == sorted(number for number in numbers if number % 3)
    assert sorted(failed) == sorted(
        f"job {number} failed ({number} divides)" for number in numbers if number % 3 == 0
    )


class Dead(Executor):
    """Loses what it is given from the second job on, and takes no more than two."""

    def __init__(self):
        self.taken = 0

    def submit(self, fn, /, *args, **kwargs):
        self.taken += 1
        if self.taken > 2:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = Future()
        if self.taken == 1:
            future.set_result(fn(*args, **kwargs))
        else:
            future.set_exception(BrokenProcessPool("a process was\nterminated abruptly"))
        return future


def test_a_dead_executor_is_a_line_for_each_job_and_no_error_of_ours_is_hidden():
    done = []
    failed = executors.run_all(Dead(), int, {1: "a", 2: "b", 3: "c"}, done.append)
    assert done == [1]
    assert sorted(failed) == [
        "b was lost (a process was terminated abruptly)",
        "c was not begun (cannot schedule new futures after shutdown)",
    ]
    with pytest.raises(ZeroDivisionError), ThreadPoolExecutor(1) as pool:
        executors.run_all(pool, lambda job: 1 // job, {0: "zero"}, done.append)


def made():
    return ThreadPoolExecutor(1)


def test_names_of_executors():
    with executors.named(f"{__name__}:made") as pool:
        assert isinstance(pool, ThreadPoolExecutor)
    with executors.named("local", 2) as pool:
        assert isinstance(pool, ProcessPoolExecutor)
    for name, match in (
        ("slurm", "'slurm' is unknown; give local, dask:ADDRESS"),
        (f"{__name__}:Nothing", "has no 'Nothing'"),
        ("nowhere:pool", "there is no module 'nowhere'"),
    ):
        with pytest.raises(ftwt.FtwtError, match=match), executors.named(name):
            pass


def test_no_scheduler_answers_is_one_line(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "_SECONDS", 0.3)
    with (
        pytest.raises(ftwt.FtwtError, match=r"no dask scheduler answers at tcp://127.0.0.1:9 "),
        executors.named("dask:tcp://127.0.0.1:9"),
    ):
        pass
