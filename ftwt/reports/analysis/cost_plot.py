"""How the cost of an image is spread, with the cheapest and the dearest images."""

from jaxtyping import Shaped
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.reports import drawing
from ftwt.reports.analysis.heatmap_plot import show_image
from ftwt.reports.drawing import Axes, Figure
from ftwt.training.activity import Activity

_EXAMPLES = 5


def cost_histogram(activity: Activity, pixels: Shaped[Tensor, "N 3 H W"] | None = None) -> Figure:
    """Draw the distribution of exact MACs over images (share of images, %).

    Args:
        activity: what was measured.
        pixels: all the images in the order in which they were measured, uint8 or floats from 0 to
            1; the cheapest and the dearest are drawn below.

    Raises:
        FtwtError: there are not as many images as were measured.
    """
    if pixels is not None and len(pixels) < activity.images:
        raise FtwtError(
            f"cost_histogram: {len(pixels)} images came, but {activity.images} were measured; "
            "give all of them in the loader's order"
        )
    with drawing.style():
        if pixels is None:
            figure = drawing.new_figure(drawing.WIDTH_INCHES, 3.3)
            _histogram(figure.add_subplot(), activity)
            drawing.add_legend(figure)
            return figure
        figure = drawing.new_figure(drawing.WIDTH_INCHES, 5.6)
        columns = min(_EXAMPLES, activity.images)
        grid = figure.add_gridspec(3, columns, height_ratios=(3.2, 1, 1))
        _histogram(figure.add_subplot(grid[0, :]), activity)
        drawing.add_legend(figure)
        size, unit = drawing.mac_unit(activity.dense_macs)
        for row, name, chosen in (
            (1, "cheapest", activity.cheapest(columns)),
            (2, "dearest", activity.dearest(columns)),
        ):
            for column, place in enumerate(chosen):
                axes = figure.add_subplot(grid[row, column])
                show_image(axes, pixels[place])
                axes.set_xlabel(f"{activity.macs_by_image[place] / size:.2f}", fontsize=9)
                if column == 0:
                    axes.set_title(f"{name} ({unit})", fontsize=9, fontweight="normal")
    return figure


def _histogram(axes: Axes, activity: Activity) -> None:
    size, unit = drawing.mac_unit(activity.dense_macs)
    values = [macs / size for macs in activity.macs_by_image]
    low, high = min(values), max(values)
    if high - low < 1e-9 * high:  # all alike: one narrow bar, not a division by zero
        low, high = 0.98 * low, 1.02 * high
    bins = max(5, min(40, activity.images // 12))
    weights = [100 / activity.images] * activity.images
    axes.hist(
        values,
        bins=bins,
        range=(low, high),
        weights=weights,
        color=drawing.BLUE,
        edgecolor="white",
        linewidth=0.5,
    )
    # The plain network is said, not drawn: so far off, it would squeeze the bars.
    mean, dense = activity.mean_macs / size, activity.dense_macs / size
    saved = 100 * activity.reduction_exact
    label = f"mean {mean:.2f}, {saved:.1f} % below the plain network's {dense:.2f}"
    axes.axvline(mean, color=drawing.VERMILION, linewidth=2, label=label)
    axes.set_xlabel(f"{unit} per image, exact, gates counted")
    axes.set_ylabel("images (%)")
    axes.set_title(f"What an image costs ({activity.images:,} images)")
    axes.grid(visible=True, axis="y")
