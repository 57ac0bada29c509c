"""The one exception that ftwt raises for bad input, and what messages have in common."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Literal

Interval = Literal["(0, 1)", "(0, 1]", "[0, 1)", "(0, inf)"]


class FtwtError(Exception):
    """Bad input to ftwt, told in one line.

    A message says what was called, what came, what was expected and how to mend it.
    The command line prints it as it is and exits with status 2.
    """

    exit_status = 2


def check_choice(called: str, name: str, value: object, choices: Iterable[object]) -> None:
    """Raise FtwtError unless a parameter's value is one of those that it takes."""
    known = tuple(choices)
    if value not in known:
        *others, last = map(repr, known)
        use = f"{', '.join(others)} or {last}" if others else last
        raise FtwtError(f"{called}: {name}={value!r} is unknown; use {use}")


def check_whole(called: str, name: str, value: int, least: int = 1) -> None:
    """Raise FtwtError unless a parameter's value is a whole number, and large enough."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise FtwtError(f"{called}: {name}={value!r}; give {least} or more, a whole number")


def check_within(called: str, name: str, value: float, interval: Interval, mend: str) -> None:
    """Raise FtwtError unless a parameter's value lies in an interval; "not a number" is in none."""
    least, most = (float(end) for end in interval[1:-1].split(","))
    try:
        above = value >= least if interval.startswith("[") else value > least
        below = value <= most if interval.endswith("]") else value < most
    except TypeError:
        # No number at all, such as text.
        above = below = False
    if not (above and below):
        raise FtwtError(f"{called}: {name}={value!r} is outside {interval}; {mend}")


def what_came(value: object) -> str:
    """A value's type; of an array or tensor what it holds, and its shape."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None:
        return type(value).__name__
    return f"{str(dtype).removeprefix('torch.')} of shape {tuple(shape)}"


def listed(names: Sequence[str], most: int = 5, mark: str = ", ") -> str:
    """The first names, and how many more there are.

    >>> listed(("conv1", "conv2", "fc"), most=2)
    'conv1, conv2 and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return mark.join(names[:most]) + more


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def in_one_line(error: BaseException) -> str:
    """An error's type and all that it says, at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
