"""Files of the items, and the page that is made from these files alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from ftwt.errors import FtwtError
from ftwt.io.files import write_atomically, write_json
from ftwt.io.reading import read_json
from ftwt.reports import drawing, page
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.items import ITEMS
from ftwt.tables import Table, of_text

_Value = TypeVar("_Value")


class _Listed(TypedDict):
    csv: str
    columns: list[str]
    rows: list[list[str]]
    caption: str


class _Drawn(TypedDict):
    picture: str
    width_pixels: int | float
    caption: str
    alt: str


class _Content(TypedDict):
    heading: str
    text: str
    content: list[_Listed | _Drawn]


class _Made(TypedDict):
    """What the page needs of an item's file."""

    page: _Content


_TITLE = "The paper's tables and figures, measured anew"
_INTRO = """A network with gates decides for each image which filters of its layers to run. This \
page holds the tables and figures of "Fire Together Wire Together" (CVPR 2022, arXiv 2110.08232) \
and of its supplement, made anew from real trainings.

Cost is counted in MACs (multiply-accumulates). Exact counts all that has to run, gates included; \
the paper's count leaves out gates and layers without a gate. Where published numbers are shown, \
they stand in tables of their own: they come from other trainings, mostly on other data."""


def write_item(folder: Path, item: Item[Any], found: Any, about: Mapping[str, Any]) -> None:
    """Write an item's PNG, SVG and CSV files, and NAME.json with what the page needs of it."""
    content = []
    for part in item.show(found):
        name = f"{item.name}-{part.suffix}" if part.suffix else item.name
        if isinstance(part, Table):
            write_atomically(folder / f"{name}.csv", part.csv().encode())
            content.append(
                {
                    "csv": f"{name}.csv",
                    "columns": part.labels,
                    "rows": part.cells(),
                    "caption": part.caption,
                }
            )
        else:
            drawing.save_figure(part.figure, folder, name)
            content.append(_picture(name, part))
    value = {
        "name": item.name,
        **about,
        "result": item.plain(found),
        "page": {"heading": item.heading, "text": item.text, "content": content},
    }
    write_json(folder / f"{item.name}.json", value, indent=1)


def note_missing(folder: Path, item: Item[Any], why: str) -> None:
    """Write a NAME.json that says why the item could not be made."""
    text = f"{item.text}\n\nNot made: {why}"
    content = {"heading": item.heading, "text": text, "content": []}
    value = {"name": item.name, "result": None, "why": why, "page": content}
    write_json(folder / f"{item.name}.json", value, indent=1)


def write_page(folder: Path, *, made: Mapping[str, str] | None = None) -> Path:
    """Make index.html of all items whose files a folder holds; return its path.

    Args:
        folder: what `write_item` wrote into.
        made: how it was made, one row each; None keeps what the folder says.

    Raises:
        FtwtError: the folder holds no item.
    """
    notes = folder / "made.json"
    if made is not None:
        write_json(notes, dict(made), indent=1)
    rows = tuple(_again(notes, dict[str, str]).items()) if notes.is_file() else ()
    found = [_again(file, _Made) for file in _files(folder)]
    if not found:
        raise FtwtError(f"write_page: {folder} holds no item; make one with ftwt paper NAME")
    sections = [_section(folder, value) for value in found]
    how = page.Section("How this was made", content=(of_text(("what", "value"), rows),))
    path = folder / "index.html"
    page.write_html(path, page.Page(_TITLE, _INTRO, (*sections, how)))
    return path


def _again(file: Path, kind: type[_Value]) -> _Value:
    return read_json(file, kind, called="write_page", mend="make it again with ftwt paper")


def _files(folder: Path) -> list[Path]:
    files = [folder / f"{item.name}.json" for item in ITEMS]
    return [file for file in files if file.is_file()]


def _section(folder: Path, value: Mapping[str, Any]) -> page.Section:
    own = value["page"]
    content = tuple(_part(folder, one) for one in own["content"])
    return page.Section(own["heading"], own["text"], content)


def _part(folder: Path, one: Mapping[str, Any]) -> Table[Any] | page.Picture:
    if "csv" in one:
        return of_text(one["columns"], one["rows"], one["caption"])
    files = [folder / f"{one['picture']}.{kind}" for kind in ("svg", "png")]
    # A name, not a path: the page holds what lies in its folder.
    lacking = [file for file in files if file.parent != folder or not file.is_file()]
    if lacking:
        raise FtwtError(f"write_page: {lacking[0]} is missing; make it again with ftwt paper")
    svg, png = (file.read_bytes() for file in files)
    return page.smaller(svg, png, one["width_pixels"], one["caption"], one["alt"])


def _picture(name: str, part: Drawing) -> dict[str, Any]:
    return {
        "picture": name,
        "width_pixels": page.width_pixels(part.figure),
        "caption": part.caption,
        "alt": part.alt,
    }
