"""Live-channel expressions in their shortest form, so that "all live" is seen as such."""

from ftwt.graph.live import All, Concatenation, Intersection, Live, OfSite, Reorder, Union


def simplified(live: Live) -> Live:
    """The same channels, with `All` only at the top or inside a concatenation or a reordering."""
    match live:
        case All() | OfSite():
            return live
        case Union():
            parts = _flat(live.parts, Union)
            if any(isinstance(part, All) for part in parts):
                return All(live.width)
            return parts[0] if len(parts) == 1 else Union(parts)
        case Intersection():
            every = _flat(live.parts, Intersection)
            parts = tuple(part for part in every if not isinstance(part, All))
            if not parts:
                return All(live.width)
            return parts[0] if len(parts) == 1 else Intersection(parts)
        case Concatenation():
            pieces = tuple(simplified(part) for part in live.parts)
            return (
                All(live.width)
                if all(isinstance(one, All) for one in pieces)
                else Concatenation(pieces)
            )
        case Reorder():
            source = simplified(live.source)
            if isinstance(source, All) and all(live.index):
                return All(live.width)
            if live.index == tuple(range(1, source.width + 1)):
                return source
            return Reorder(source, live.index)


def _flat(parts: tuple[Live, ...], kind: type[Union] | type[Intersection]) -> tuple[Live, ...]:
    """Simplified parts without repeats, parts of the same kind merged into one list."""
    found: dict[Live, None] = {}
    for part in map(simplified, parts):
        inner = part.parts if isinstance(part, kind) else (part,)
        found.update(dict.fromkeys(inner))
    return tuple(found)
