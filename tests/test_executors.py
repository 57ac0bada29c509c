"""Many runs by any executor: the same table wherever they are computed, and a line for losses."""

import json
import os
import signal
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import hypothesis.strategies as st
import pytest
from hypothesis import given

import ftwt
from ftwt.budget import executors
from ftwt.budget.sweep import Sweep, run_sweep
from ftwt.training import Overrides
from tests.command_line import make_folder, make_weights


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
    with executors.executor_named(f"{__name__}:made") as pool:
        assert isinstance(pool, ThreadPoolExecutor)
    with executors.executor_named("local", 2) as pool:
        assert isinstance(pool, ProcessPoolExecutor)
    for name, match in (
        ("slurm", "'slurm' is unknown; give local, dask:ADDRESS"),
        (f"{__name__}:Nothing", "has no 'Nothing'"),
        ("nowhere:pool", "there is no module 'nowhere'"),
    ):
        with pytest.raises(ftwt.FtwtError, match=match), executors.executor_named(name):
            pass


def test_no_scheduler_answers_is_one_line(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "_SECONDS", 0.3)
    with (
        pytest.raises(ftwt.FtwtError, match=r"no dask scheduler answers at tcp://127.0.0.1:9 "),
        executors.executor_named("dask:tcp://127.0.0.1:9"),
    ):
        pass


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    images = make_folder(root / "images", images=10)
    return Sweep("cifar10-resnet8-short", f"imagefolder:{images}", str(make_weights(root)),
                 Overrides(epochs=1))  # fmt: skip


def test_a_sweep_whose_worker_is_killed_ends_with_the_same_table(sweep, tmp_path):
    distributed = pytest.importorskip("distributed")
    here = run_sweep(sweep, tmp_path / "here", [0.8], seeds=3)
    out = tmp_path / "there"
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0
    ) as cluster:
        first, killed = next(iter(cluster.workers.values())).pid, []

        def kill_at_the_first_end(job):
            if not killed:
                killed.append(job)
                os.kill(first, signal.SIGKILL)

        there = run_sweep(
            sweep, out, [0.8], seeds=3,
            executor=f"dask:{cluster.scheduler_address}", done=kill_at_the_first_end,
        )  # fmt: skip
    assert killed
    assert there["rows"] == here["rows"]
    assert json.loads((out / "sweep.json").read_text())["rows"] == here["rows"]
