"""One self-contained HTML page: text, tables and pictures, nothing loaded from elsewhere."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftwt.errors import FtwtError
from ftwt.io.files import make_folder, write_atomically
from ftwt.reports import drawing
from ftwt.reports.drawing import Figure
from ftwt.tables import Table

_PIXELS_PER_INCH = 96
# A picture grows and shrinks between these shares of its size; where there is less room, its box
# scrolls, so that text stays readable.
_SMALLEST, _LARGEST = 0.66, 1.25


@dataclass(frozen=True)
class Picture:
    """A picture with its caption; `alt` says what it shows to who cannot see it."""

    content: bytes
    media_type: str
    width_pixels: int
    caption: str
    alt: str

    @property
    def smallest(self) -> int:
        """The width in pixels below which its box scrolls."""
        return round(_SMALLEST * self.width_pixels)

    @property
    def largest(self) -> int:
        """The width in pixels that it never exceeds."""
        return round(_LARGEST * self.width_pixels)

    def address(self) -> str:
        """The picture itself, as an address."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Commands:
    """Lines to paste into a shell."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph of text, and tables, pictures and commands below it."""

    heading: str
    text: str = ""
    content: tuple[Table[Any] | Picture | Commands, ...] = ()


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


def write_html(path: Path, page: Page) -> None:
    """Write a page as one HTML file, whole or not at all; its folder is made if need be.

    Raises:
        FtwtError: the path is a folder.
    """
    if path.is_dir():
        raise FtwtError(f"write_html: {path} is a folder; give a file's name, e.g. index.html")
    make_folder(path.parent)
    write_atomically(path, render_page(page).encode())


def render_page(page: Page) -> str:
    """The page's HTML, with everything that was given escaped."""
    # Here, as only pages need it; torch brings it along.
    from jinja2 import Environment, FileSystemLoader

    folder = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=folder, autoescape=True, keep_trailing_newline=True)
    return template.get_template("page.html.jinja").render(page=page)
