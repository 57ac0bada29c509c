"""Plots with one bar for each layer: which filters run, and what they cost."""

import math
from collections.abc import Sequence

from ftwt.reports import drawing
from ftwt.reports.drawing import Axes, Figure
from ftwt.training.activity import Activity

_LABEL_POINTS = 8
_POINTS_PER_INCH = 72
# Width that the vertical axis and the figure's margins take.
_BESIDE_INCHES = 0.9


def activity_by_layer(activity: Activity) -> Figure:
    """Draw how many of each site's filters run always, sometimes and never (% of its filters)."""
    sites = activity.sites
    core = [100 * site.core_filters / site.filters for site in sites]
    sometimes = [100 * site.sometimes_filters / site.filters for site in sites]
    never = [100 * site.never_filters / site.filters for site in sites]
    share = [100 * site.mean_share for site in sites]
    places = range(len(sites))
    with drawing.style():
        figure, axes = _figure(len(sites))
        bars: list[float] = [0.0] * len(sites)
        for values, colour, label in (
            (core, drawing.BLUE, "run for every image"),
            (sometimes, drawing.SKY, "run for some images"),
            (never, drawing.PALE, "run for no image"),
        ):
            axes.bar(places, values, bottom=bars, color=colour, width=0.8, label=label)
            bars = [below + value for below, value in zip(bars, values, strict=True)]
        axes.plot(
            places,
            share,
            "o-",
            color=drawing.VERMILION,
            markersize=4 if len(sites) <= 40 else 2.5,
            linewidth=1.4,
            label="run, mean over images",
        )
        axes.set_ylim(0, 100)
        axes.set_ylabel("filters of the layer (%)")
        axes.set_title(f"Which filters run, by layer ({activity.images:,} images)")
        _name_layers(figure, axes, [site.name for site in sites])
    return figure


def macs_by_layer(activity: Activity) -> Figure:
    """Draw what each layer costs: the plain network's MACs, those that ran, and the gate's own."""
    layers = activity.layers
    size, unit = drawing.mac_unit(max(layer.dense_macs for layer in layers))
    places = range(len(layers))
    run = [layer.mean_macs / size for layer in layers]
    gates = [layer.mean_gate_macs / size for layer in layers]
    with drawing.style():
        figure, axes = _figure(len(layers))
        dense = [layer.dense_macs / size for layer in layers]
        axes.bar(places, dense, color=drawing.PALE, width=0.84, label="plain network")
        axes.bar(places, run, color=drawing.BLUE, width=0.6, label="run, mean over images")
        label = f"gates, {_share(activity):.2g} % of plain network"
        axes.bar(places, gates, bottom=run, color=drawing.ORANGE, width=0.6, label=label)
        axes.set_ylabel(f"{unit} per image, exact")
        axes.set_title("What each layer costs")
        axes.grid(visible=True, axis="y")
        names = [layer.name if layer.gated else f"{layer.name} (no gate)" for layer in layers]
        _name_layers(figure, axes, names)
    return figure


def _share(activity: Activity) -> float:
    return 100 * sum(layer.mean_gate_macs for layer in activity.layers) / activity.dense_macs


def _figure(layers: int) -> tuple[Figure, Axes]:
    """A figure whose width grows with the layers, up to what a page shows."""
    width = min(max(drawing.WIDTH_INCHES, 0.2 * layers + _BESIDE_INCHES), 13.0)
    figure = drawing.new_figure(width, 4.6)
    return figure, figure.add_subplot()


def _name_layers(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    """Names under the bars; where all do not fit, every second one, or every third."""
    inches = figure.get_figwidth() - _BESIDE_INCHES
    needed = 1.35 * _LABEL_POINTS / _POINTS_PER_INCH
    step = math.ceil(needed * len(names) / inches)
    places = range(0, len(names), step)
    labels = [drawing.shortened(names[place]) for place in places]
    axes.set_xticks(places, labels, rotation=90, fontsize=_LABEL_POINTS)
    axes.set_xlim(-0.7, len(names) - 0.3)
    every = "" if step == 1 else f" (one name in {step} is shown)"
    axes.set_xlabel(f"layers, in the order in which they run{every}")
    drawing.add_legend(figure)
