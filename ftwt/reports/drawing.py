"""What all plots share: figures without global state, one style, and writing PNG and SVG."""

import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ftwt.errors import FtwtError
from ftwt.io.files import make_folder, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:  # `import ftwt` must not load matplotlib
    Axes = Figure = Any

# Okabe and Ito's palette, which people with any colour vision can tell apart.
BLUE, SKY, ORANGE, VERMILION, GREEN = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73"
INK, GREY, PALE = "#1F2933", "#7B8794", "#DDE2E8"
# Of a plot that need not be wider: at 66 % of it, on a phone, text is still readable.
WIDTH_INCHES = 4.8
# Where a point's label may stand: points to the right and up, and which side of it is there.
_LABEL_PLACES: tuple[tuple[tuple[int, int], str, str], ...] = (
    ((0, 8), "center", "bottom"), ((0, -8), "center", "top"),
    ((8, 0), "left", "center"), ((-8, 0), "right", "center"),
    ((6, 6), "left", "bottom"), ((-6, -6), "right", "top"),
    ((6, -6), "left", "top"), ((-6, 6), "right", "bottom"),
    ((0, 20), "center", "bottom"), ((0, -20), "center", "top"),
)  # fmt: skip
# What a marker covers.
_MARKER_POINTS = 9
# Two legend entries of so many characters fit side by side.
_LEGEND_CHARACTERS = 28
# Axes of many plots.
REDUCTION_LABEL = "MAC reduction (% of the plain network's MACs)"
EXACT_REDUCTION_LABEL = "MAC reduction, exact (% of the plain network's MACs)"

_STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelcolor": INK,
        "axes.edgecolor": GREY,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": False,
        "grid.color": PALE,
        "grid.linewidth": 0.8,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        # The same measurements give the same bytes.
        "svg.hashsalt": "ftwt",
        "svg.fonttype": "path",
    }
)


def require() -> None:
    """Raise FtwtError unless matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise FtwtError(
            "analysis: a plot was asked for, but matplotlib is not installed; "
            "run `pip install ftwt[plots]`"
        )


@contextmanager
def style() -> Iterator[None]:
    """The plots' style, for as long as one is drawn or written; the caller's own comes back.

    Raises:
        FtwtError: matplotlib is not installed.
    """
    require()
    import matplotlib as mpl

    settings: Any = dict(_STYLE)  # matplotlib's types name every key
    with mpl.rc_context(settings):
        yield


def new_figure(width_inches: float, height_inches: float) -> "Figure":
    """An empty figure that no window and no pyplot knows of; call inside `style`."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width_inches, height_inches), layout=layout)


@contextmanager
def single_plot(
    height_inches: float,
    *,
    x: str = "",
    y: str = "",
    title: str = "",
    grid: Literal["both", "x", "y"] = "both",
    margins: tuple[float, float] = (0.05, 0.05),
) -> Iterator[tuple["Figure", "Axes"]]:
    """A figure with labelled axes, to be drawn on; it gets its legend at the end."""
    with style():
        figure = new_figure(WIDTH_INCHES, height_inches)
        axes = figure.add_subplot()
        axes.set(xlabel=x, ylabel=y, title=title)
        axes.grid(visible=True, axis=grid)
        axes.margins(*margins)
        yield figure, axes
        add_legend(figure)


def line_of_plain(axes: "Axes", score: float, *, share: bool = True) -> None:
    """A dashed line at the plain network's score, such as its accuracy; a fraction, or not."""
    height = 100 * score if share else score
    label = f"plain network, {height:.1f} %" if share else f"plain network, {height:.4g}"
    dashes = (0, (6, 3))
    axes.axhline(height, color=GREY, linestyle=dashes, linewidth=1.2, label=label)


def add_legend(figure: "Figure") -> None:
    """A legend under the plot, in two columns where its entries are short enough."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    fits = max(map(len, labels)) <= _LEGEND_CHARACTERS or figure.get_figwidth() > WIDTH_INCHES * 1.5
    figure.legend(loc="outside lower left", ncols=2 if fits else 1)


@style()
def label_points(
    axes: "Axes", points: Sequence[tuple[float, float]], texts: Sequence[str], **look: Any
) -> None:
    """Write a text beside each point, where it covers no point and no text written before.

    Call it last, when the axes' limits and the legend are there: the layout is final then.

    Args:
        axes: what the points are drawn in.
        points: in units of the axes.
        texts: one for each point; of points whose texts and places on the figure are the same,
            the first is labelled.
        look: of the text, as matplotlib takes it.
    """
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    places = [tuple(axes.transData.transform(point)) for point in points]
    half = _MARKER_POINTS / 72 * figure.dpi / 2
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in places]
    inside = figure.bbox
    seen: set[tuple[Any, ...]] = set()
    for point, place, text in zip(points, places, texts, strict=True):
        key = (text, *(round(one / half) for one in place))
        if key in seen:
            continue
        seen.add(key)
        tried: list[tuple[int, int, Any, Any]] = []
        for offset, ha, va in _LABEL_PLACES:
            label = axes.annotate(
                text, point, xytext=offset, textcoords="offset points", ha=ha, va=va, **look
            )
            box = label.get_window_extent()
            outside = not (inside.contains(*box.min) and inside.contains(*box.max))
            covers = sum(box.overlaps(one) for one in taken) + 10 * outside
            tried.append((covers, len(tried), label, box))
            if not covers:
                break
        best = min(tried, key=lambda one: one[:2])
        for one in tried:
            if one is not best:
                one[2].remove()
        taken.append(best[3])


def widened(limits: tuple[float, float], least: float) -> tuple[float, float]:
    """An axis's limits, moved apart where they span less than `least`."""
    low, high = limits
    missing = max(0.0, least - (high - low)) / 2
    return low - missing, high + missing


def to_png(figure: "Figure") -> bytes:
    """The figure as PNG at 150 dots an inch."""
    return _render(figure, "png")


def to_svg(figure: "Figure") -> bytes:
    """The figure as SVG, with text as outlines, so that it looks the same everywhere."""
    return _render(figure, "svg")


def save_figure(figure: "Figure", folder: Path, name: str) -> tuple[Path, Path]:
    """Write NAME.png and NAME.svg into a folder, and return their paths."""
    make_folder(folder)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    write_atomically(png, to_png(figure))
    write_atomically(svg, to_svg(figure))
    return png, svg


def _render(figure: "Figure", kind: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with style():
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def mac_unit(macs: float) -> tuple[float, str]:
    """A divisor and a unit in which so many MACs read well: (1e6, "million MACs")."""
    for size, name in ((1e9, "billion MACs"), (1e6, "million MACs"), (1e3, "thousand MACs")):
        if macs >= size:
            return size, name
    return 1.0, "MACs"


def shortened(name: str, most: int = 26) -> str:
    """A layer's name, with its middle left out where it is too long for an axis."""
    if len(name) <= most:
        return name
    head = most // 3
    return f"{name[:head]}…{name[-(most - head - 1) :]}"
