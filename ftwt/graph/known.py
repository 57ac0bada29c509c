"""What is known of one tensor's live channels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, fx

from ftwt.graph import labels
from ftwt.graph.live import Live, Reorder


@dataclass(frozen=True, eq=False)
class KnownTensor:
    """What is known of one tensor: None labels mean that dim 1 is the expression's channels."""

    live: Live
    labels: Tensor | None = None


# None is "all live"; a tuple is an operation with several results.
Known: TypeAlias = KnownTensor | tuple["KnownTensor | None", ...] | None


def labels_of(value: KnownTensor, shape: Any) -> Tensor:
    """Labels of where each element of a tensor of this shape comes from."""
    if value.labels is not None:
        return value.labels
    return labels.of_channels(shape, value.live.width)


def normal(live: Live, moved: Tensor) -> KnownTensor | None:
    """Prefer a plain expression over dim 1; give up where samples were mixed."""
    if not labels.keeps_samples_apart(moved, live.width):
        return None
    index = labels.channel_index(moved, live.width)
    if index is None:
        return KnownTensor(live, moved)
    plain = index == tuple(range(1, live.width + 1))
    return KnownTensor(live if plain else Reorder(live, index))


def single(values: Mapping[str, Known], node: fx.Node) -> KnownTensor | None:
    """What is known of a node's tensor, if it makes one."""
    value = values.get(node.name)
    return value if isinstance(value, KnownTensor) else None
