"""One self-contained HTML page: text, tables and pictures, nothing loaded from elsewhere."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ftwt.errors import FtwtError
from ftwt.io.files import write_atomically
from ftwt.reports import drawing
from ftwt.reports.drawing import Figure
from ftwt.reports.page_style import CSS

# A cell without a value.
NOTHING = "\N{EN DASH}"
# Cells of up to so many characters are not broken.
_SHORT = 12
_PIXELS_PER_INCH = 96
# A picture grows and shrinks between these shares of its size; where there is less room, its box
# scrolls, so that text stays readable.
_SMALLEST, _LARGEST = 0.66, 1.25


@dataclass(frozen=True)
class Table:
    """Columns and rows of text; a column of numbers is set flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise FtwtError(
                    f"Table: a row has {len(row)} cells ({', '.join(row)}), but there are "
                    f"{len(self.columns)} columns ({', '.join(self.columns)}); give one cell a "
                    "column"
                )


@dataclass(frozen=True)
class Picture:
    """A picture with its caption; `alt` says what it shows to who cannot see it."""

    content: bytes
    media_type: str
    width_pixels: int
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph of text, and tables and pictures below it."""

    heading: str
    text: str = ""
    content: tuple[Table | Picture, ...] = ()


@dataclass(frozen=True)
class Page:
    """A report. `highlights` are (value, what it is), drawn large under the introduction."""

    title: str
    intro: str
    sections: tuple[Section, ...]
    highlights: tuple[tuple[str, str], ...] = ()


def picture(figure: Figure, caption: str, alt: str) -> Picture:
    """A matplotlib figure as a picture for the page: SVG, or PNG where that is smaller."""
    svg, png = drawing.to_svg(figure), drawing.to_png(figure)
    return smaller(svg, png, width_pixels(figure), caption, alt)


def width_pixels(figure: Figure) -> int:
    """How wide a figure is on the page where there is room."""
    return round(figure.get_figwidth() * _PIXELS_PER_INCH)


def smaller(svg: bytes, png: bytes, width_pixels: int, caption: str, alt: str) -> Picture:
    """A picture of which SVG and PNG are there: SVG, or PNG where that is much smaller."""
    if len(svg) <= 2 * len(png):
        return Picture(svg, "image/svg+xml", width_pixels, caption, alt)
    return Picture(png, "image/png", width_pixels, caption, alt)


def write(path: Path, page: Page) -> None:
    """Write a page as one HTML file, whole or not at all; its folder is made if need be.

    Raises:
        FtwtError: the path is a folder.
    """
    if path.is_dir():
        raise FtwtError(f"page.write: {path} is a folder; give a file's name, e.g. index.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render(page).encode())


def render(page: Page) -> str:
    """The page's HTML, with everything that was given escaped."""
    body = [f"<header>\n<h1>{escape(page.title)}</h1>", _paragraphs(page.intro, "intro")]
    if page.highlights:
        cards = (
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for value, name in page.highlights
        )
        body.append(f'<dl class="highlights">{"".join(cards)}</dl>')
    body.append("</header>")
    body += [_section(section) for section in page.sections]
    return _PAGE.format(title=escape(page.title), css=CSS, body="\n".join(body))


def _section(section: Section) -> str:
    parts = [f"<section>\n<h2>{escape(section.heading)}</h2>", _paragraphs(section.text)]
    for item in section.content:
        parts.append(_table(item) if isinstance(item, Table) else _picture(item))
    return "\n".join([*parts, "</section>"])


def _paragraphs(text: str, css_class: str = "text") -> str:
    """One paragraph for each stretch between empty lines."""
    stretches = (escape(part.strip()) for part in text.split("\n\n") if part.strip())
    return "\n".join(f'<p class="{css_class}">{stretch}</p>' for stretch in stretches)


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    numeric = [_numeric(cells) for cells in columns]
    head = "".join(
        f'<th scope="col"{_class("number" if number else "")}>{escape(name)}</th>'
        for name, number in zip(table.columns, numeric, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td{_class('number' if number else _fit(cell))}>{escape(cell)}</td>"
            for cell, number in zip(row, numeric, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    # Outside the box that scrolls, so that the caption itself never has to.
    caption = f'<p class="caption">{escape(table.caption)}</p>' if table.caption else ""
    return (
        f'<div class="scroll table" tabindex="0"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>{caption}"
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _fit(cell: str) -> str:
    """A few characters stay on one line, such as r = 0.85."""
    return "short" if len(cell) <= _SHORT else ""


def _numeric(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers or NOTHING, with one number at least."""
    number = re.compile(rf"[-+{drawing.MINUS}]?[\d.,]+")
    filled = [cell for cell in cells if cell != NOTHING]
    return bool(filled) and all(number.fullmatch(cell) for cell in filled)


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.content).decode()
    smallest, largest = (round(share * picture.width_pixels) for share in (_SMALLEST, _LARGEST))
    return (
        '<figure>\n<div class="scroll picture" tabindex="0">'
        f'<img src="data:{picture.media_type};base64,{data}" alt="{escape(picture.alt)}" '
        f'width="{largest}" style="min-width:{smallest}px"></div>\n'
        f"<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
