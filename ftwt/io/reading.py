"""Reading JSON that anybody may have written: whole and of the expected types, or refused."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from ftwt.errors import FtwtError

_Value = TypeVar("_Value")


class Anything(TypedDict):
    """A JSON object of which nothing is asked."""


def read_json(
    file: Path,
    kind: type[_Value] = Anything,  # type: ignore[assignment]
    *,
    called: str,
    mend: str = "restore it, or start again in a new folder",
) -> _Value:
    """What a JSON file holds.

    Args:
        file: the file, in UTF-8.
        kind: what it has to hold, as for `misfit`; numbers have to be finite.
        called: what reads it, for the message.
        mend: what to do where it is damaged, for the message.

    Raises:
        FtwtError: it cannot be read, is no JSON, or holds something else.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise FtwtError(f"{called}: {file} cannot be read ({reason}); {mend}") from None
    return parsed(text, kind, source=f"{called}: {file}", mend=mend, finite=True)


def parsed(text: str, kind: type[_Value], *, source: str, mend: str, finite: bool) -> _Value:
    """The JSON value in a text.

    Args:
        text: the text.
        kind: what it has to hold, as for `misfit`.
        source: what was read, which begins the message.
        mend: what to do, which ends it.
        finite: whether infinite numbers are refused, too.

    Raises:
        FtwtError: it is no JSON, or holds something else.
    """
    number = partial(_number, finite=finite)
    try:
        value: _Value = json.loads(text, parse_constant=number, parse_float=number)
    # Numbers of thousands of digits, and lists in lists in lists.
    except (ValueError, RecursionError) as error:
        reason = f"no JSON: {error}" if isinstance(error, ValueError) else "nested too deep"
        raise FtwtError(f"{source} is damaged ({reason}); {mend}") from None
    wrong = misfit(value, kind)
    if wrong is not None:
        raise FtwtError(f"{source} is damaged ({wrong}); {mend}")
    return value


def misfit(value: Any, kind: Any, place: str = "") -> str | None:
    """The first place where a value is not of a type, as a phrase; None where all of it is.

    Args:
        value: JSON, or what was built from it.
        kind: `str`, `int`, `float` (an integer too, never NaN), `bool`, `None`, `Literal`, unions,
            `list`, `tuple`, `dict` and their abstract forms, `TypedDict`, other classes;
            whatever else (a protocol, a type variable) takes all values but plain JSON.
        place: where the value stands.

    >>> misfit({"a": [1, "2"]}, dict[str, list[int]])
    "a[1] is '2', expected int"
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return None
    if origin in (Union, UnionType):
        # What is inside of the one that fits best says more than the union.
        found = [misfit(value, one, place) for one in inner]
        deeper = [one for one in found if one and not one.startswith(f"{place or 'it'} is ")]
        return None if None in found else (deeper or [_wrong(value, kind, place)])[0]
    if origin in (NotRequired, Required):
        return misfit(value, inner[0], place)
    if origin is Literal:
        fits = any(type(value) is type(one) and value == one for one in inner)
        return None if fits else _wrong(value, " or ".join(map(repr, inner)), place)
    if is_typeddict(kind):
        return _record(value, kind, place)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(value, inner, place)
    if origin is not None and issubclass(origin, Sequence):
        return _sequence(value, inner, place, fixed=origin is tuple and inner[-1:] != (...,))
    return None if _is(value, kind) else _wrong(value, kind, place)


def misfit_of_fields(kind: type, values: Mapping[str, Any]) -> str | None:
    """The first field of a dataclass that a value does not fit; None where all fit."""
    hints = get_type_hints(kind)
    wrong = (
        misfit(values[one.name], hints[one.name], one.name)
        for one in fields(kind)
        if one.name in values
    )
    return next((one for one in wrong if one is not None), None)


def _is(value: Any, kind: Any) -> bool:
    if kind in (None, NoneType):
        return value is None
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and abs(value) <= math.inf and not _too_large(value)
    if kind in (str, int, bool):
        return type(value) is kind
    if isinstance(kind, type) and not getattr(kind, "_is_protocol", False) and kind is not Callable:
        return isinstance(value, kind)
    return callable(value) or is_dataclass(value)


def _too_large(value: float) -> bool:
    return isinstance(value, int) and value.bit_length() > 1000


def _record(value: Any, kind: Any, place: str) -> str | None:
    if not isinstance(value, Mapping):
        return _wrong(value, "an object", place)
    hints = get_type_hints(kind)
    lacking = sorted(kind.__required_keys__ - set(value))
    if lacking:
        return f"{place or 'it'} has no {lacking[0]}"
    found = (
        misfit(value[name], hints[name], f"{place}.{name}" if place else name)
        for name in hints
        if name in value
    )
    return next((one for one in found if one is not None), None)


def _mapping(value: Any, inner: tuple[Any, ...], place: str) -> str | None:
    if not isinstance(value, Mapping):
        return _wrong(value, "an object", place)
    found = (
        misfit(key, inner[0], f"a name in {place or 'it'}")
        or misfit(one, inner[1], f"{place}.{key}" if place else str(key))
        for key, one in value.items()
    )
    return next((one for one in found if one is not None), None)


def _sequence(value: Any, inner: tuple[Any, ...], place: str, *, fixed: bool) -> str | None:
    if not isinstance(value, (list, tuple)):
        return _wrong(value, "a list", place)
    if fixed and len(value) != len(inner):
        return f"{place or 'it'} has {len(value)} items, expected {len(inner)}"
    kinds = inner if fixed else inner[:1] * len(value)
    pairs = enumerate(zip(value, kinds, strict=True))
    found = (misfit(one, kind, f"{place}[{at}]") for at, (one, kind) in pairs)
    return next((one for one in found if one is not None), None)


def _wrong(value: Any, expected: Any, place: str) -> str:
    named = expected if isinstance(expected, str) else getattr(expected, "__name__", str(expected))
    came = repr(value) if not isinstance(value, int) or not _too_large(value) else "a huge number"
    came = " ".join(came.split())
    return f"{place or 'it'} is {came if len(came) <= 60 else came[:57] + '...'}, expected {named}"


def _number(text: str, *, finite: bool) -> float:
    value = float(text)
    if math.isnan(value) or (finite and math.isinf(value)):
        raise ValueError(f"a number is {text[:20]}")
    return value
