"""A grid of images beside their heatmaps of all filters and of those that run."""

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.reports import drawing
from ftwt.reports.analysis.heatmaps import Heatmaps, upsample
from ftwt.reports.drawing import Axes, Figure
from ftwt.tables import MINUS

_TILE_INCHES = 1.45


def heatmap_grid(maps: Heatmaps, pixels: Shaped[Tensor, "B 3 H W"]) -> Figure:
    """Draw one row for each image: the image, the heatmap of all filters, that of the kept ones.

    Both heatmaps of a row share one scale, up to the peak of the first.

    Args:
        maps: a site's heatmaps.
        pixels: the same images to look at: uint8, or floats from 0 to 1.

    Raises:
        FtwtError: there are not as many images as heatmaps.
    """
    if len(pixels) != len(maps.full):
        raise FtwtError(
            f"heatmap_grid: {len(pixels)} images came with the heatmaps of {len(maps.full)}; "
            "give the images that the heatmaps were measured on"
        )
    height, width = pixels.shape[-2:]
    peak = maps.full.amax((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    full = upsample(maps.full / peak, (height, width))
    kept = upsample(maps.kept / peak, (height, width))
    count = len(pixels)
    with drawing.style():
        figure = drawing.new_figure(drawing.WIDTH_INCHES, count * (_TILE_INCHES + 0.65) + 1.3)
        grid = figure.subplots(count, 3, squeeze=False)
        for column, title in enumerate(("image", "all filters", "filters that ran")):
            grid[0, column].set_title(title, loc="center", pad=8)
        for row in range(count):
            show_image(grid[row, 0], pixels[row])
            _show_map(grid[row, 1], full[row])
            _show_map(grid[row, 2], kept[row])
            grid[row, 1].set_xlabel(f"{maps.filters} filters", fontsize=9)
            saved = 100 * maps.reduction_exact[row]
            ran = round(maps.kept_share[row] * maps.filters)
            grid[row, 2].set_xlabel(
                f"{ran} filters\nlayer MACs {MINUS}{saved:.0f} %\n"
                f"cosine {maps.cosine[row]:.2f}, IoU {maps.iou_at_half_maximum[row]:.2f}",
                fontsize=9,
            )
        bar = figure.colorbar(
            grid[0, 1].images[0],
            ax=grid,
            location="bottom",
            shrink=0.75,
            aspect=40,
            pad=0.02,
            ticks=[0, 0.5, 1],
        )
        bar.set_label("mean |feature| over channels (1: peak with all filters)")
        figure.suptitle(f"Heatmaps of {maps.site}", fontsize=11, fontweight="bold")
    return figure


def show_image(axes: Axes, pixels: Shaped[Tensor, "3 H W"]) -> None:
    """Draw an image without axes."""
    axes.imshow(displayed(pixels).numpy(), interpolation="nearest")
    _bare(axes)


def displayed(pixels: Shaped[Tensor, "3 H W"]) -> Float[Tensor, "H W 3"]:
    """An image as floats from 0 to 1, channels last."""
    unit = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float().clamp(0, 1)
    return rearrange(unit.cpu(), "c h w -> h w c")


def _show_map(axes: Axes, heatmap: Float[Tensor, "H W"]) -> None:
    axes.imshow(heatmap.numpy(), cmap="viridis", vmin=0, vmax=1)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
