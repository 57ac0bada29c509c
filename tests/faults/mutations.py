"""Seeded damage: to bytes as disks and networks do it, to JSON values as people do."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Damage = Callable[[bytes, random.Random], bytes]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Bytes cut, flipped, overwritten, doubled or lengthened."""
    at, size = draw.randrange(len(content)), draw.choice((1, 8, 100))
    match draw.randrange(8):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
        case 2:
            return content[:at] + bytes(size) + content[at + size :]
        case 3:
            return content[:at] + draw.randbytes(size) + content[at + size :]
        case 4:
            return content[:at] + content[at + size :]
        case 5:
            return content[:at] + draw.randbytes(size) + content[at:]
        case 6:
            return draw.randbytes(min(8, len(content))) + content[8:]
        case _:
            # Most of what a reader has to understand stands at the beginning.
            early = draw.randrange(min(400, len(content)))
            return content[:early] + draw.randbytes(1) + content[early + 1 :]


def damaged_json(content: bytes, draw: random.Random) -> bytes:
    """JSON with one to three values dropped, replaced, moved, doubled or renamed."""
    value = mutated(json.loads(content), draw)
    text = json.dumps(value)
    # Numbers that no value of Python stands for.
    return text.replace('"<1e999>"', "1e999").replace('"<huge>"', "9" * 5000).encode()


def mutated(value: Any, draw: random.Random) -> Any:
    """A JSON value with one to three changes."""
    root = [copy.deepcopy(value)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(root))
        if not places:
            break
        holder, key = draw.choice(places)
        _change(holder, key, draw, places)
    return root[0] if root else None


def _change(holder: Any, key: Any, draw: random.Random, places: list[tuple[Any, Any]]) -> None:
    match draw.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[f"{key}s"] = holder.pop(key)
        case 1 | 2:
            other, name = draw.choice(places)
            holder[key] = copy.deepcopy(other[name])
        case 3:
            holder[key] = [holder[key]]
        case 4 if isinstance(holder[key], (int, float)):
            holder[key] = holder[key] * draw.choice((-1, 0, 2, 10**9, 10**400 // 10**390, 0.37))
        case _:
            holder[key] = _foreign(draw)


def _foreign(draw: random.Random) -> Any:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    return draw.choice(
        (
            None, True, -1, 0, 1, 10**12, 10**400, 0.5, float("nan"), float("inf"), "<1e999>",
            "<huge>", "", "x", "os:system", "../../up", "\ud800", "line\nline", [], {}, [None],
            deep, {"type": "Pruning"}, {"type": "os:system", "command": "true"}, {"type": None},
            {"function": "HeatmapMass"}, {"function": "os:system"}, {"mapping": [1]},
            {"type": "Fixed", "masks": {"x": [[True, 2]]}}, {"type": "HeatmapMass", "mass": "0.9"},
        )
    )  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, one in pairs:
        yield value, key
        if isinstance(one, (dict, list)):
            yield from _places(one)
