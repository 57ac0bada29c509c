"""How numbers read, in tables and in sentences."""

from collections.abc import Callable

MINUS = "\N{MINUS SIGN}"
# Metrics that are fractions of something, and read as percentages.
_FRACTIONS = ("accuracy", "top5", "mean_iou", "map", "map_50", "map_75", "recall")


def percent(digits: int, unit: str = "") -> Callable[[float], str]:
    """How a fraction reads as a percentage; the sign is in the column's label, or `unit`."""
    return lambda fraction: _written(100 * fraction, f".{digits}f") + unit


def points(gap: float, digits: int = 2) -> str:
    """How a difference of two fractions reads in percentage points, with its sign.

    >>> points(0.0123), points(-0.00001, 1)
    ('+1.23', '0.0')
    """
    return signed(100 * gap, digits)


def signed(number: float, digits: int) -> str:
    """How a number reads whose sign matters."""
    return _written(number, f"+.{digits}f")


def count(number: float) -> str:
    """How a number of things reads."""
    return _written(number, ",.0f")


def fixed(digits: int) -> Callable[[float], str]:
    """How a plain number reads."""
    return lambda number: _written(number, f".{digits}f")


def metric(name: str, value: float) -> str:
    """How a metric of a task reads: shares as percentages, other numbers with four digits.

    >>> metric("top5", 0.5), metric("mean_squared_error", 12.34567)
    ('50.00 %', '12.35')
    """
    return percent(2, " %")(value) if is_share(name) else _written(value, ".4g")


def is_share(name: str) -> bool:
    """Whether a metric of a task is a fraction of 1.

    >>> is_share("mean_iou"), is_share("mean_squared_error")
    (True, False)
    """
    return name in _FRACTIONS


def _written(number: float, form: str) -> str:
    """A number with a real minus sign; what rounds to zero has no sign."""
    text = format(number, form)
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)
