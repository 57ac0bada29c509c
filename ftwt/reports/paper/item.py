"""What a table or figure is: how to train for it, measure it and show it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from ftwt.reports.drawing import Figure
from ftwt.reports.paper.study import Study
from ftwt.tables import Table

FoundT = TypeVar("FoundT")


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
    `plain` gives what was measured, a dataclass, as numbers, strings, lists and dicts.
    """

    name: str
    heading: str
    text: str
    train: Callable[[Study], None]
    measure: Callable[[Study], FoundT]
    show: Callable[[FoundT], tuple[Table[Any] | Drawing, ...]]
    plain: Callable[[Any], dict[str, Any]] = asdict
