"""What a table or figure is: how to train for it, measure it and show it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ftwt.reports.drawing import Figure
from ftwt.reports.paper.study import Study
from ftwt.tables import Table


class Found(Protocol):
    """What was measured for an item."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain numbers, strings, lists and dicts."""
        ...


FoundT = TypeVar("FoundT", bound=Found)


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure: NAME.png and NAME.svg (or NAME-SUFFIX), and a picture of the page."""

    figure: Figure
    caption: str
    alt: str
    suffix: str = ""


@dataclass(frozen=True)
class Item(Generic[FoundT]):
    """A table or figure of the paper.

    `train` makes the study have the runs that are needed; `measure` looks at the study's runs,
    wherever they come from, and raises FtwtError where they do not suffice; `show` only draws.
    """

    name: str
    heading: str
    text: str
    train: Callable[[Study], None]
    measure: Callable[[Study], FoundT]
    show: Callable[[FoundT], tuple[Table[Any] | Drawing, ...]]
