"""How numbers read in tables."""

from collections.abc import Callable

MINUS = "\N{MINUS SIGN}"


def percent(digits: int, unit: str = "") -> Callable[[float], str]:
    """How a fraction reads as a percentage; the sign is in the column's label, or `unit`."""
    return lambda fraction: f"{100 * fraction:.{digits}f}{unit}".replace("-", MINUS)


def points(gap: float) -> str:
    """How a difference of two fractions reads in percentage points, with its sign."""
    return f"{100 * gap:+.2f}".replace("-", MINUS)


def count(number: float) -> str:
    """How a number of things reads."""
    return f"{number:,.0f}"


def fixed(digits: int) -> Callable[[float], str]:
    """How a plain number reads."""
    return lambda number: f"{number:.{digits}f}".replace("-", MINUS)
