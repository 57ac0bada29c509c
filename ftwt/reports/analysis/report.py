"""The report of one gated network: its plots as files, and one page that holds them all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from ftwt.reports import drawing, page
from ftwt.reports.analysis.cost_plot import cost_histogram
from ftwt.reports.analysis.curve import Curve, HasReductions
from ftwt.reports.analysis.diagnosis import Dynamism
from ftwt.reports.analysis.heatmap_plot import heatmap_grid
from ftwt.reports.analysis.heatmaps import Heatmaps
from ftwt.reports.analysis.layer_plots import activity_by_layer, macs_by_layer
from ftwt.reports.analysis.tradeoff_plot import tradeoff
from ftwt.reports.columns import ACCURACY, EXACT, PAPER
from ftwt.reports.drawing import Figure
from ftwt.reports.page import Page, Section
from ftwt.tables import NOTHING, Column, Table, count, of_text, points
from ftwt.training.activity import Activity


@dataclass(frozen=True, eq=False)
class Findings:
    """What was measured of one gated network.

    `activity` and `dense_accuracy` are of the test images; `pixels` are these to look at, in the
    order in which they were measured. `curve` and `trained` are of the validation images, so
    that nothing was chosen by what the test showed. `map_pixels` are those that `maps` were
    measured on. Seconds are of training.
    """

    activity: Activity
    dense_accuracy: float
    curve: Curve
    trained: HasReductions
    maps: Heatmaps
    map_pixels: Shaped[Tensor, "B 3 H W"]
    pixels: Shaped[Tensor, "N 3 H W"] | None = None
    dense_seconds: float | None = None
    gated_seconds: float | None = None
    dynamism: Dynamism | None = None


def write_report(
    folder: Path,
    findings: Findings,
    *,
    title: str,
    intro: str,
    made: Mapping[str, str],
    around: tuple[Sequence[Section], Sequence[Section]] = ((), ()),
    numbers: tuple[tuple[str, str], ...] | None = None,
) -> Path:
    """Write each plot as PNG and SVG, and index.html with all of them; return the page's path.

    Args:
        folder: where to; made if need be.
        findings: what was measured.
        title: the page's title.
        intro: what the page shows, in plain words; empty lines part paragraphs.
        made: how it was made (command, seed, versions), one row each.
        around: sections before and after those of the findings.
        numbers: what is drawn large (value, what it is), in place of the findings' own.
    """

    def drawn(name: str) -> page.Picture:
        draw, caption, alt = _PLOTS[name]
        return plot(folder, name, draw(findings), caption, alt)

    before, after = around
    oracle = drawn("tradeoff"), oracle_table(findings.curve)
    by_layer = drawn("activity_by_layer"), drawn("macs_by_layer")
    sections = [
        *before,
        Section("Results", content=(results_table(findings),)),
        Section("What a perfect gate would save", _ORACLE, oracle),
        Section("Which filters run", _LAYERS, by_layer),
        Section("What the kept filters see", _HEATMAPS, (drawn("heatmaps"),)),
        Section("Easy and hard images", _IMAGES, (drawn("cost_by_image"),)),
        *_diagnosed(findings.dynamism),
        *after,
        Section("How this was made", content=(of_text(("what", "value"), made.items()),)),
    ]
    path = folder / "index.html"
    large = highlights(findings) if numbers is None else numbers
    page.write_html(path, Page(title, intro, tuple(sections), large))
    return path


def results_table(findings: Findings) -> Table[Any]:
    """The plain and the gated network side by side."""
    activity = findings.activity
    plain = {
        "network": "plain",
        "accuracy": findings.dense_accuracy,
        "reduction_exact": None,
        "reduction_paper": None,
        "macs": activity.dense_macs,
        "seconds": findings.dense_seconds,
    }
    gated = {
        "network": "gated",
        "accuracy": activity.accuracy,
        "reduction_exact": activity.reduction_exact,
        "reduction_paper": activity.reduction_paper,
        "macs": activity.mean_macs,
        "seconds": findings.gated_seconds,
    }
    return Table(
        (
            Column("network", "network"),
            ACCURACY,
            EXACT,
            PAPER,
            Column("macs", "MACs per image", count),
            Column("seconds", "training (s)", count),
        ),
        (plain, gated),
        f"On {activity.images:,} test images, each looked at once. MACs are "
        "multiply-accumulates. Exact counts all that has to run, gates included; the paper's "
        "count leaves out gates and layers without a gate, and is here to "
        "compare with published numbers.",
    )


def oracle_table(curve: Curve) -> Table[Any]:
    """A perfect gate at each mass."""
    columns = (Column("mass", "heatmap mass r", "{:g}".format), ACCURACY, EXACT, PAPER)
    return Table(columns, curve.rows, "A perfect gate, without training.")


def highlights(findings: Findings) -> tuple[tuple[str, str], ...]:
    """The numbers to see first: (value, what it is)."""
    activity = findings.activity
    return (
        (f"{100 * activity.accuracy:.1f} %", "accuracy with gates"),
        (
            points(activity.accuracy - findings.dense_accuracy, 1),
            "percentage points against the plain network",
        ),
        (f"{100 * activity.reduction_exact:.0f} %", "fewer MACs, exact, gates counted"),
        (f"{100 * activity.reduction_paper:.0f} %", "fewer MACs, paper's count"),
    )


def _diagnosed(found: Dynamism | None) -> tuple[Section, ...]:
    """Whether decisions depend on the image, if that was asked."""
    if found is None:
        return ()
    return (Section("Is it dynamic?", found.verdict, (dynamism_table(found),)),)


def dynamism_table(found: Dynamism) -> Table[Any]:
    """Accuracy and cost with the network's own decisions, and with others."""
    right, wrong = (
        NOTHING if one is None else count(one) for one in (found.macs_right, found.macs_wrong)
    )
    return Table(
        (
            Column("decided_by", "decided by"),
            ACCURACY,
            Column("macs", "MACs per image", count),
        ),
        found.rows,
        f"On {found.images:,} test images. MACs of an image deviate by "
        f"{found.deviation_macs:,.0f}; images that are answered rightly cost {right}, wrongly "
        f"{wrong}.",
    )


def plot(folder: Path, name: str, figure: Figure, caption: str, alt: str) -> page.Picture:
    """Write a figure as NAME.png and NAME.svg, and give it for the page."""
    drawing.save_figure(figure, folder, name)
    return page.picture(figure, caption, alt)


# By name: how it is drawn, its caption, and what it shows to who cannot see it.
_PLOTS: Mapping[str, tuple[Callable[[Findings], Figure], str, str]] = {
    "tradeoff": (
        lambda found: tradeoff(found.curve, trained={"trained gates": found.trained}),
        "Right is cheaper, up is better. r is the share of a layer's heatmap mass that is kept. "
        "Filled: exact MACs; hollow: the paper's count.",
        "Accuracy over MAC reduction of perfect gates, and of the trained network",
    ),
    "activity_by_layer": (
        lambda found: activity_by_layer(found.activity),
        "A layer whose filters run for some images only is one that adapts.",
        "Share of each layer's filters that run always, sometimes and never",
    ),
    "macs_by_layer": (
        lambda found: macs_by_layer(found.activity),
        "Grey is what the plain network spends, blue what had to run, and orange what the gates "
        "cost themselves.",
        "MACs of each layer: plain network, run, and gates",
    ),
    "heatmaps": (
        lambda found: heatmap_grid(found.maps, found.map_pixels),
        "Cosine: cosine similarity of the two heatmaps. IoU: overlap of where each reaches half "
        "of its own maximum. 1 means alike.",
        "Images beside heatmaps of all filters and of the filters that ran",
    ),
    "cost_by_image": (
        lambda found: cost_histogram(found.activity, found.pixels),
        "Exact MACs of each image with all gates counted.",
        "Histogram of MACs over images, with the cheapest and dearest images",
    ),
}
_ORACLE = """A perfect gate answers with the target itself: the filters that hold the share r of \
a layer's heatmap mass. It needs no training and costs nothing, so it shows what the rule alone \
saves and loses, here on the validation images. A trained network can lie above the curve, \
because its filters adapt to the gates."""
_LAYERS = """Before each layer a small gate looks at the layer's input and decides which filters \
run for this image."""
_HEATMAPS = """Few filters hold most of a layer's response: with the others left out, the heatmap \
should keep its shape. Both heatmaps of a row share one colour scale."""
_IMAGES = "The gates choose for each image, so images do not all cost the same."
