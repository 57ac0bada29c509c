"""Run folders: whether one may be written, and by this process alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftwt.errors import FtwtError
from ftwt.io.files import is_partial
from ftwt.training.records import read_record

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]


def check_free(out: Path, resume: bool = False) -> None:
    """Raise FtwtError unless `out` is new or empty, or holds a run to resume."""
    if out.is_file():
        raise FtwtError(f"train: {out} is a file; give a folder for the run")
    # A run that was killed before its first word leaves nothing but these.
    bare = not out.is_dir() or all(map(is_partial, out.iterdir()))
    if resume:
        if not (out / "run.json").is_file() and not (out.is_dir() and bare):
            raise FtwtError(
                f"train: {out} holds no run to resume; leave out --resume, or give a run's folder"
            )
        if not bare and status(out) == "finished":
            raise FtwtError(
                f"train: the run in {out} is finished, there is nothing to resume; "
                "give a new folder for another run"
            )
    elif not bare:
        raise FtwtError(
            f"train: {out} is not empty and may hold another run; nothing was changed, "
            "give a new folder, or --resume to go on with that run"
        )


def status(out: Path) -> str:
    """What `run.json` says of the run: running, interrupted, failed or finished."""
    return str(read_record(out)["status"])


# What a process does in the folder that it has claimed.
_DOES = {
    "train": "training",
    "sweep": "running a sweep",
    "slim": "making a network smaller",
    "paper": "making a report",
}


@contextmanager
def claimed(out: Path, called: str = "train") -> Iterator[None]:
    """Make the folder and keep other processes from writing into it, until the end.

    The lock belongs to the process, so that a killed one leaves none behind. Where the system or
    the file system has no locks (Windows, some network shares) there is none.

    Raises:
        FtwtError: nothing can be written there, or another process works there.
    """
    _make(out, called)
    if fcntl is None:
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FtwtError(
                f"{called}: another process is {_DOES[called]} in {out}; wait for its end or stop "
                "it, or give another folder"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def remove_partials(out: Path) -> None:
    """Remove what a killed process was writing."""
    for path in out.iterdir():
        if is_partial(path):
            path.unlink()


def _make(out: Path, called: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable.partial"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FtwtError(
            f"{called}: cannot write to {out} ({error.strerror}); give a folder that you may write "
            "to"
        ) from None
