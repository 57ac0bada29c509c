"""Reading damaged files: each is refused in one line, or read to something sound."""

import math
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from ftwt.errors import FtwtError
from tests.faults.kinds import Kind


def outcomes(kind: Kind, folder: Path, count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """What comes of each of `count` damaged files: "refused", "same", "other" or "broken".

    "other" are finite answers to a description that says something else; "broken" is told by what
    went wrong.
    """
    whole = folder / "whole"
    whole.mkdir()
    place = kind.make(whole).relative_to(whole)
    content = (whole / place).read_bytes()
    expected = _read(kind, whole, place, content, folder / "work")[1]
    for number in range(count):
        draw = random.Random(f"{kind.name} {seed} {number}")
        changed = kind.damage(content, draw)
        outcome, found = _read(kind, whole, place, changed, folder / "work")
        if outcome == "read":
            wrong = next((one for one in _leaves(found) if _unsound(one)), None)
            outcome = "same" if _equal(found, expected) else "other"
            outcome, found = (outcome, "") if wrong is None else ("broken", f"it gives {wrong}")
        yield outcome, f"{number}: {found}"


def counts(kind: Kind, folder: Path, count: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """How many came to what, and the first lines of those that are broken."""
    found: Counter[str] = Counter()
    broken = []
    for outcome, text in outcomes(kind, folder, count, seed):
        found[outcome] += 1
        broken += [text] if outcome == "broken" else []
    return found, broken


def _read(kind: Kind, whole: Path, place: Path, content: bytes, work: Path) -> tuple[str, Any]:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(whole, work)
    (work / place).write_bytes(content)
    try:
        return "read", kind.read(work / place)
    except FtwtError as error:
        text = str(error)
        return ("refused" if text and "\n" not in text else "broken"), repr(text)[:300]
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
        return "broken", f"{type(error).__name__}: {error} at {where}"[:400]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _leaves(one)
    elif is_dataclass(value):
        for one in fields(value):
            yield from _leaves(getattr(value, one.name))
    else:
        yield value


def _unsound(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not bool(value.isfinite().all())
    return isinstance(value, float) and not math.isfinite(value)


def _equal(one: Any, two: Any) -> bool:
    first, second = list(_leaves(one)), list(_leaves(two))
    return len(first) == len(second) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
        for a, b in zip(first, second, strict=True)
    )
