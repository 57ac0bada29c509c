"""Where many runs are computed: any executor of `concurrent.futures`, by a name or as a value."""

import multiprocessing
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
)
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch

from ftwt.errors import FtwtError
from ftwt.io.user_code import import_factory

# To wait for a scheduler's first answer.
_SECONDS = 10
_Job = TypeVar("_Job", bound=Hashable)
# What an executor's own futures raise where what computes is gone, by the names of their types:
# those of dask are not imported for this.
_GONE = (
    "KilledWorker",
    "CommClosedError",
    "TimeoutError",
    "FutureCancelledError",
    "ConnectionError",
)


class Here(Executor):
    """Computes in this process, one call after the other, where it is asked to."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call now; gives a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except FtwtError as error:
            future.set_exception(error)
        return future


@contextmanager
def executor_named(name: str = "local", jobs: int = 1) -> Iterator[Executor]:
    """The executor of a name, closed at the end.

    | name | computes |
    |---|---|
    | `local` | on this machine: in this process, or in `jobs` processes that share its threads |
    | `dask:ADDRESS` | on the workers of the dask scheduler there, which see the same files |
    | `my_module:function` | where the executor computes that the function returns |

    Raises:
        FtwtError: there is no such executor, or the scheduler does not answer.
    """
    kind, _, place = name.partition(":")
    with ExitStack() as stack:
        if name == "local":
            executor = _local(jobs)
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        elif kind == "dask" and place:
            client = stack.enter_context(_dask(place))
            executor = client.get_executor(pure=False)
            # This cancels what has not begun.
            stack.callback(executor.shutdown, wait=False)
        elif place:
            executor = import_factory(name)()
            if not isinstance(executor, Executor):
                raise FtwtError(
                    f"executor: {name} returns a {type(executor).__name__}; let it return a "
                    "concurrent.futures.Executor"
                )
            stack.callback(executor.shutdown, wait=False)
        else:
            raise FtwtError(
                f"executor: {name!r} is unknown; give local, dask:ADDRESS, or my_module:function"
            )
        yield executor


def run_all(
    executor: Executor,
    work: Callable[[_Job], None],
    jobs: Mapping[_Job, str],
    done: Callable[[_Job], None],
) -> list[str]:
    """Do some work for each job; gives what was wrong with those that failed, by their names.

    A job whose worker is gone fails like any other, and all are waited for.
    """
    failed: list[str] = []
    futures: dict[Future[None], _Job] = {}
    for job, name in jobs.items():
        try:
            futures[executor.submit(work, job)] = job
        except (RuntimeError, OSError) as error:
            # BrokenExecutor is one, too: nothing more can be submitted.
            failed.append(f"{name} was not begun ({_line(error)})")
    for future in as_completed(futures):
        job = futures[future]
        try:
            future.result()
        except FtwtError as error:
            failed.append(f"{jobs[job]} failed ({error})")
        except (Exception, CancelledError) as error:
            if not isinstance(error, (BrokenExecutor, CancelledError)) and not _is_gone(error):
                raise
            failed.append(f"{jobs[job]} was lost ({_line(error)})")
        else:
            done(job)
    return failed


def _local(jobs: int) -> Executor:
    if jobs == 1:
        return Here()
    threads = max(1, torch.get_num_threads() // jobs)
    # A process forked from one with threads of torch's own may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, torch.set_num_threads, (threads,))


def _dask(address: str) -> Any:
    """A client of the scheduler at an address."""
    try:
        import distributed
    except ModuleNotFoundError:
        raise FtwtError(
            "executor: dask:ADDRESS needs dask.distributed, which is not installed; run "
            "`pip install ftwt[dask]`"
        ) from None
    try:
        return distributed.Client(  # type: ignore[no-untyped-call]
            address, timeout=_SECONDS, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise FtwtError(
            f"executor: no dask scheduler answers at {address} ({_line(error)}); start one with "
            "`dask scheduler`, and give the address that it prints"
        ) from None


def _is_gone(error: BaseException) -> bool:
    return any(kind.__name__ in _GONE for kind in type(error).__mro__)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
