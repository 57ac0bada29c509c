"""Figure 2: core filters of each layer, which run for every input, and how the others spread."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ftwt.errors import FtwtError
from ftwt.reports import drawing
from ftwt.reports.analysis.core import BINS, LayerFilters, layer_filters
from ftwt.reports.analysis.layer_plots import activity_by_layer
from ftwt.reports.analysis.removal import Removal, without_never
from ftwt.reports.drawing import Axes, Figure
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.study import Study, without_data
from ftwt.tables import Column, Table, count, percent
from ftwt.training.activity import Activity, activity

# From never to always: six shades of a scale that is even to every eye, in matplotlib's cividis.
_SHADES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Core:
    """The filters of one run by how many of the images they ran for."""

    run: str
    network: str
    images: int
    layers: tuple[LayerFilters, ...]
    seen: Activity
    # None where the network cannot be cut.
    removal: Removal | None

    def to_json(self) -> dict[str, Any]:
        """All but the cost, which other figures show."""
        layers = [layer.to_json() for layer in self.layers]
        shares = {site.name: list(site.share_of_images_by_filter) for site in self.seen.sites}
        return {
            "run": self.run,
            "network": self.network,
            "images": self.images,
            "layers": layers,
            "without_never": None if self.removal is None else self.removal.to_json(),
            "share_of_images_by_filter": shares,
        }


def _train(study: Study) -> None:
    """One gated network."""
    study.by_mass(study.scale.masses[0])


def _measure(study: Study) -> Core:
    """Look at the first run with gates, over all test images."""
    run, model = study.main()
    seen = study.tested(run)
    if not isinstance(seen, Activity):
        seen = activity(model, study.batches(study.test))
    layers = tuple(layer_filters(site) for site in seen.sites)
    removal = None
    with suppress(FtwtError):
        _, removal = without_never(model, seen, round_to=None)
    return Core(run.name, without_data(run.network), seen.images, layers, seen, removal)


def _show(found: Core) -> tuple[Table[Any] | Drawing, ...]:
    """Two figures by layer, and a table."""
    shares = {site.name: site.mean_share for site in found.seen.sites}
    rows = [
        {
            "layer": layer.name,
            "filters": layer.filters,
            "core": len(layer.core),
            "sometimes": sum(layer.between),
            "never": len(layer.never),
            "mean_share": shares[layer.name],
        }
        for layer in found.layers
    ]
    table = Table(
        (
            Column("layer", "layer"),
            Column("filters", "filters", count),
            Column("core", "core: run for every image", count),
            Column("sometimes", "for some images", count),
            Column("never", "never", count),
            Column("mean_share", "run on average (%)", percent(1)),
        ),
        rows,
        f"{found.network} ({found.run}), {found.images:,} test images.",
    )
    core = Drawing(
        activity_by_layer(found.seen),
        "Core filters run for every test image. A layer that is all core and never is pruned "
        "for good; what lies between adapts to the image.",
        "Share of each layer's filters that run always, sometimes and never",
    )
    between = Drawing(
        _figure(found),
        "All filters of the sites by the share of images for which they run.",
        "Filters of each layer by the share of images for which they run",
        suffix="spread",
    )
    return core, between, table, *_removed(found)


def _removed(found: Core) -> tuple[Table[Any], ...]:
    """What is left of the plain network without the filters that never ran."""
    if found.removal is None:
        return ()
    value = found.removal.to_json()
    rows = [
        {
            "what": what,
            "whole": value[key],
            "left": value[f"{key}_left"],
            "share": value[f"{key}_left"] / value[key],
        }
        for what, key in (
            ("filters of the sites", "filters"),
            ("parameters", "parameters"),
            ("MACs per image, exact, all filters running", "macs"),
        )
    ]
    columns = (
        Column("what", "plain network"),
        Column("whole", "whole", count),
        Column("left", "without filters that never run", count),
        Column("share", "left (%)", percent(1)),
    )
    text = (
        "Measured: the network without its gates, whole and as `ftwt slim` would leave it without "
        "the filters that ran for none of these test images. Images of other kinds may need them."
    )
    return (Table(columns, rows, text, "removed"),)


def _figure(found: Core) -> Figure:
    from matplotlib import colormaps

    shades = colormaps["cividis"].resampled(256)
    names = ["never", *(f"to {100 * top:.0f} %" for top in BINS[:-1]), "below 100 %", "always"]
    colours = [drawing.PALE, *(shades(0.92 - 0.8 * place) for place in _SHADES)]
    with drawing.style():
        figure = drawing.new_figure(drawing.WIDTH_INCHES, 1.9 + 0.24 * len(found.layers))
        axes = figure.add_subplot()
        _bars(axes, found, names, colours)
        figure.legend(loc="outside lower left", ncols=4, fontsize=8)
    return figure


def _bars(axes: Axes, found: Core, names: list[str], colours: list[Any]) -> None:
    places = list(range(len(found.layers)))[::-1]
    left = [0.0] * len(places)
    counts = [(len(layer.never), *layer.between, len(layer.core)) for layer in found.layers]
    for part, (name, colour) in enumerate(zip(names, colours, strict=True)):
        widths = [
            100 * row[part] / layer.filters for row, layer in zip(counts, found.layers, strict=True)
        ]
        axes.barh(places, widths, left=left, color=colour, height=0.8, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(
        places, [drawing.shortened(layer.name, 18) for layer in found.layers], fontsize=8
    )
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.6, len(places) - 0.4)
    axes.set_xlabel("filters of the layer (%), by share of images")
    axes.set_title(f"For how many of {found.images:,} images a filter runs")


ITEM = Item(
    "fig2",
    "Figure 2: core filters",
    "Some filters are needed for every image, some for none, and some now and then. The "
    "paper's supplement calls the first kind core filters and counts them by layer.",
    _train,
    _measure,
    _show,
    Core.to_json,
)
