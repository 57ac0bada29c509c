"""Pictures of the demo: masks of a few images side by side, and one model at several budgets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Bool, Shaped
from torch import Tensor

from ftwt.reports import drawing
from ftwt.reports.analysis.heatmap_plot import show_image
from ftwt.reports.drawing import Axes, Figure

# A row of so many filters is still readable on a phone.
_MOST_FILTERS = 64


class BudgetPoint(NamedTuple):
    """One setting of a model: fractions, of the test images."""

    reduction_exact: float
    accuracy: float


def mask_strips(
    pixels: Shaped[Tensor, "B 3 H W"], masks: Mapping[str, Bool[Tensor, "B C"]]
) -> Figure:
    """Draw a row for each image: the image, and which filters of some sites run for it.

    A filter that runs for some of these images and not for others is drawn in another colour.

    Args:
        pixels: the images to look at.
        masks: by site; of the first filters where there are many.
    """
    count, sites = len(pixels), list(masks)
    with drawing.style():
        figure = drawing.new_figure(drawing.WIDTH_INCHES, 0.7 + count * (0.42 * len(sites) + 0.1))
        grid = figure.add_gridspec(
            count * len(sites), 2, width_ratios=(1, 6), hspace=0.02, wspace=0.02
        )
        for image in range(count):
            first = image * len(sites)
            show_image(figure.add_subplot(grid[first : first + len(sites), 0]), pixels[image])
            for place, site in enumerate(sites):
                axes = figure.add_subplot(grid[first + place, 1])
                _strip(axes, masks[site][:, :_MOST_FILTERS], image)
                ran = int(masks[site][image].sum())
                label = f"{site}: {ran} of {masks[site].shape[1]} filters"
                axes.set_title(label, fontsize=8, fontweight="normal", pad=2)
    return figure


def _strip(axes: Axes, mask: Bool[Tensor, "B C"], image: int) -> None:
    same = (mask == mask[:1]).all(0)
    for place, (runs, alike) in enumerate(zip(mask[image].tolist(), same.tolist(), strict=True)):
        colour = (drawing.BLUE if alike else drawing.VERMILION) if runs else "white"
        axes.add_patch(_square(place, colour))
    axes.set_xlim(-0.2, mask.shape[1])
    axes.set_ylim(-0.2, 1.2)
    axes.axis("off")


def _square(place: int, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((place, 0), 0.8, 1, facecolor=colour, edgecolor=drawing.GREY, linewidth=0.5)


def budget_strip(points: Sequence[BudgetPoint], dense_accuracy: float) -> Figure:
    """Draw one model at several budgets: a point for each, dense at the left end."""
    with drawing.style():
        figure = drawing.new_figure(drawing.WIDTH_INCHES, 2.6)
        axes = figure.add_subplot()
        reductions = [0.0, *(100 * one.reduction_exact for one in points)]
        accuracies = [100 * dense_accuracy, *(100 * one.accuracy for one in points)]
        axes.plot(reductions, accuracies, "-", color=drawing.PALE, linewidth=6, zorder=1)
        axes.plot(reductions[:1], accuracies[:1], "s", color=drawing.GREY, markersize=9, zorder=2)
        axes.plot(reductions[1:], accuracies[1:], "o", color=drawing.BLUE, markersize=9, zorder=2)
        axes.set_xlabel("MAC reduction (%), all passes counted")
        axes.set_ylabel("accuracy (%)")
        axes.set_ylim(drawing.widened(axes.get_ylim(), 12.0))
        axes.margins(x=0.08)
        places = list(zip(reductions, accuracies, strict=True))
        drawing.label_points(axes, places, [f"{y:.1f} %" for y in accuracies], fontsize=9)
    return figure
