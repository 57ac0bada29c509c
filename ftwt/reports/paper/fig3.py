"""Figure 3: images, heatmaps of all filters and of those that ran; how alike these are."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ftwt.data.streams import random_stream
from ftwt.errors import FtwtError
from ftwt.reports import drawing
from ftwt.reports.analysis.heatmap_plot import heatmap_grid
from ftwt.reports.analysis.heatmaps import Heatmaps, heatmaps
from ftwt.reports.analysis.similarity import Similarity, heatmap_similarity
from ftwt.reports.drawing import Figure
from ftwt.reports.paper.fig2 import _train
from ftwt.reports.paper.images import in_memory
from ftwt.reports.paper.item import Drawing, Item
from ftwt.reports.paper.study import Study, without_data
from ftwt.tables import Column, Table, fixed, percent
from ftwt.training.activity import Activity
from ftwt.training.inspection import check_site


@dataclass(frozen=True, eq=False)
class Maps:
    """Heatmaps of some test images in one layer, and the similarity in all layers."""

    run: str
    network: str
    places: tuple[int, ...]
    maps: Heatmaps
    pixels: UInt8[Tensor, "N 3 H W"]
    similarities: tuple[Similarity, ...]

    def to_json(self) -> dict[str, Any]:
        """The numbers, without maps and pixels."""
        return {
            "run": self.run,
            "network": self.network,
            "images": list(self.places),
            "maps": self.maps.to_json(),
            "similarity": [one.to_json() for one in self.similarities],
        }


def _measure(study: Study) -> Maps:
    """Look at one layer for some images, and at all layers for all of the test images.

    The layer is the study's, or the one whose activity is the nearest to 30 %; images are the
    study's places among the test images, or drawn by its seed.

    Raises:
        FtwtError: no such layer, or not enough images.
    """
    run, model = study.main()
    if study.layer is not None:
        check_site(model, study.layer, "paper fig3")
    places = _places(study)
    seen = study.tested(run)
    assert isinstance(seen, Activity)
    site = study.layer or seen.most_reduced()
    chosen = in_memory(study.dataset.test.select(torch.tensor(places)))
    images = next(iter(study.batches(chosen)))[0]
    return Maps(
        run.name,
        without_data(run.network),
        places,
        heatmaps(model, images, site),
        chosen.pixels,
        heatmap_similarity(model, study.batches(study.test)),
    )


def _places(study: Study) -> tuple[int, ...]:
    """Which of the test images are drawn."""
    there = len(study.dataset.test)
    wanted = study.places or ()
    outside = [place for place in wanted if not 0 <= place < there]
    if outside:
        raise FtwtError(
            f"paper fig3: there is no test image {outside[0]}; the {there} images are 0 to "
            f"{there - 1}"
        )
    count = study.scale.map_images
    if not wanted and there < count:
        raise FtwtError(
            f"paper fig3: the grid takes {count} images, but there are {there} test images; "
            "name those to show with --image"
        )
    order = torch.randperm(there, generator=random_stream(study.seed, 3))
    return wanted or tuple(sorted(order[:count].tolist()))


def _show(found: Maps) -> tuple[Table[Any] | Drawing, ...]:
    """The grid, the similarity by layer, and its table."""
    grid = Drawing(
        heatmap_grid(found.maps, found.pixels),
        f"Layer {found.maps.site} of {found.network}. Both heatmaps of a row share one colour "
        "scale. Cosine: similarity of the two heatmaps; IoU: overlap of where each reaches half "
        "of its own maximum; 1 means alike. Layer MACs are exact, without the layer's gate.",
        "Images beside heatmaps of all filters and of those that ran",
    )
    by_layer = Drawing(
        _figure(found),
        f"Mean over {found.similarities[0].images:,} test images; bars span one standard "
        "deviation on either side.",
        "Similarity of the two heatmaps by layer",
        suffix="similarity",
    )
    table = Table(
        (
            Column("site", "layer"),
            Column("kept_share", "filters that ran (%)", percent(1)),
            Column("reduction_exact", "layer's MAC reduction, exact, without gate (%)", percent(1)),
            Column("cosine", "cosine", fixed(3)),
            Column("cosine_std", "its deviation", fixed(3)),
            Column("iou", "IoU at half maximum", fixed(3)),
            Column("iou_std", "its deviation", fixed(3)),
        ),
        [one.to_json() for one in found.similarities],
        f"How well the filters that ran stand for all of them, over all "
        f"{found.similarities[0].images:,} test images of the study.",
    )
    return grid, by_layer, table


def _figure(found: Maps) -> Figure:
    layers = found.similarities
    places = list(range(len(layers)))[::-1]
    height, label = 1.7 + 0.3 * len(layers), "similarity of heatmaps (1: alike)"
    with drawing.single_plot(
        height, x=label, title="Do the kept filters stand for all?", grid="x"
    ) as (
        figure,
        axes,
    ):
        for shift, colour, marker, label, values, spread in (
            (0.14, drawing.BLUE, "o", "cosine", [one.cosine for one in layers],
             [one.cosine_std for one in layers]),
            (-0.14, drawing.VERMILION, "s", "IoU at half maximum", [one.iou for one in layers],
             [one.iou_std for one in layers]),
        ):  # fmt: skip
            moved = [place + shift for place in places]
            axes.errorbar(values, moved, xerr=spread, fmt=marker, color=colour, markersize=5,
                          elinewidth=1.2, label=label)  # fmt: skip
        axes.set_yticks(places, [drawing.shortened(one.site, 18) for one in layers], fontsize=8)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.6, len(layers) - 0.4)
    return figure


ITEM = Item(
    "fig3",
    "Figure 3: what the kept filters see",
    "A heatmap is the mean magnitude of a layer's features. The method rests on few filters "
    "holding most of it: with the others left out, its shape should stay.",
    _train,
    _measure,
    _show,
    Maps.to_json,
)
