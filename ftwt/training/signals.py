"""Asking a training to stop, by SIGTERM or SIGINT."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ftwt.errors import FtwtError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(FtwtError):
    """A training was asked to stop; its state is saved. Exit status: 128 and the signal."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number
        self.exit_status = 128 + number

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str, int]]:
        """As pickles of other processes need it."""
        return Interrupted, (str(self), self.number)


@contextmanager
def listening(*, twice: bool) -> Iterator[Callable[[], int]]:
    """Take SIGTERM and SIGINT as requests to stop; gives the number of the signal, or 0.

    Args:
        twice: whether a second Ctrl-C stops at once. Not in a job of many processes, where the
            terminal and torchrun both pass it on.
    """
    came: list[int] = []

    def asked() -> int:
        return came[0] if came else 0

    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may take signals; elsewhere they stay with who started the thread.
        yield asked
        return

    def take(number: int, frame: FrameType | None) -> None:
        if twice and came and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        came.append(number)

    before = {number: signal.signal(number, take) for number in _SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
