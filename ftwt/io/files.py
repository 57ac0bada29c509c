"""Writing files."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftwt.errors import FtwtError

_PARTIAL = ".partial"


class CannotWriteError(FtwtError, OSError):
    """A file or folder cannot be written: a full disk, most often. `strerror` is the reason."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "CannotWriteError":
        """That the system said so of a path."""
        reason = error.strerror or type(error).__name__
        made = cls(f"cannot write to {path} ({reason}); free space, or give another folder")
        made.strerror = reason
        return made


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises:
        CannotWriteError: the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError.of(path, error) from None


def write_atomically(path: Path, payload: bytes | memoryview) -> None:
    """Write a file through a temporary one beside it: it appears whole or not at all.

    Raises:
        CannotWriteError: the system refuses.
    """
    try:
        _write_atomically(path, payload)
    except OSError as error:
        raise CannotWriteError.of(path, error) from None


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """Write JSON as `write_atomically` does."""
    write_atomically(path, (json.dumps(value, indent=indent) + "\n").encode())


def _write_atomically(path: Path, payload: bytes | memoryview) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=_PARTIAL)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are private; what they become is as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def is_partial(path: Path) -> bool:
    """Whether a file is what `write_atomically` leaves behind when the process is killed."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL)


@contextmanager
def writing(what: str, out: Path, mend: str) -> Iterator[None]:
    """Turn a write that fails (a full disk, most often) into an FtwtError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FtwtError(f"{what}: cannot write to {out} ({reason}); {mend}") from None
