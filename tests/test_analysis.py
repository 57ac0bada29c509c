import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ftwt
from ftwt import FtwtError, analysis, gates, tables, targets
from ftwt.reports import page
from ftwt.reports.analysis.heatmaps import cosine, iou_at_half_maximum
from tests import small
from tests.small import refused

EXAMPLE = torch.zeros(1, 3, 32, 32)
VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def network():
    return small.resnet8()


@pytest.fixture(scope="module")
def batches():
    return small.labelled(10, 4)


def attach(network, gate=None, target=None):
    pruning = ftwt.Pruning(gate=gate or gates.Oracle(), target=target or targets.HeatmapMass(0.7))
    return ftwt.attach(network, pruning, example=EXAMPLE)


@pytest.fixture(scope="module")
def model(network):
    return attach(network)


@pytest.fixture(scope="module")
def seen(model, batches):
    return analysis.activity(model, batches)


def test_filters_are_core_sometimes_or_never(seen, model):
    assert tuple(site.name for site in seen.sites) == model.sites
    for site in seen.sites:
        shares = site.share_of_images_by_filter
        assert len(shares) == site.filters
        assert site.core_filters == sum(share == 1 for share in shares)
        assert site.never_filters == sum(share == 0 for share in shares)
        assert site.sometimes_filters == sum(0 < share < 1 for share in shares)
        assert site.mean_share == pytest.approx(sum(shares) / site.filters)


def test_activity_is_that_of_trace(seen, model, batches):
    images = torch.cat([images for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    with torch.inference_mode():
        trace = model.eval().trace(images)
    assert seen.macs_by_image == tuple(trace.macs.tolist())
    assert seen.reduction_exact == pytest.approx(1 - trace.macs.double().mean() / model.dense_macs)
    paper = trace.paper_macs.double().mean()
    assert seen.reduction_paper == pytest.approx(1 - paper / model.dense_macs)
    assert seen.accuracy == pytest.approx((trace.output.argmax(1) == labels).double().mean())
    for site in seen.sites:
        share = trace.sites[site.name].mask.double().mean(1)
        assert site.std_share == pytest.approx(share.std(correction=0).item())
    costs = sum(layer.mean_macs + layer.mean_gate_macs for layer in seen.layers)
    assert costs == pytest.approx(seen.mean_macs)
    assert sum(layer.dense_macs for layer in seen.layers) == seen.dense_macs == model.dense_macs
    assert min(seen.macs_by_image) == seen.macs_by_image[seen.cheapest(1)[0]]
    assert max(seen.macs_by_image) == seen.macs_by_image[seen.dearest(1)[0]]


def test_a_gate_that_never_varies_has_no_deviation(network, batches):
    seen = analysis.activity(attach(network, gates.Fixed({})), batches, limit=5)
    assert seen.images == 5
    assert all(site.std_share == 0 and site.core_filters == site.filters for site in seen.sites)
    assert seen.reduction_exact == 0


def test_measuring_restores_modes(network, batches):
    model = attach(network).train()
    model.layer1.eval()
    before = [module.training for module in model.modules()]
    images, _ = batches[0]
    analysis.activity(model, batches, limit=2)
    analysis.heatmaps(model, images, model.sites[1])
    assert [module.training for module in model.modules()] == before
    assert not any(gate._forward_pre_hooks for gate in model.gates.values())


def test_active_oracle_keeps_accuracy_and_heatmaps(network, batches):
    curve = analysis.oracle_curve(network, batches, [0.5, 1.0], example=EXAMPLE)
    half, full = curve.rows
    assert full.accuracy == curve.dense_accuracy
    assert half.reduction_exact > full.reduction_exact >= 0
    images, _ = batches[0]
    maps = analysis.heatmaps(attach(network, target=targets.Active()), images, "layer2.0.conv1")
    assert torch.equal(maps.full, maps.kept)
    assert maps.cosine == pytest.approx([1.0] * 4)
    assert maps.iou_at_half_maximum == (1.0,) * 4


def test_kept_heatmap_is_inside_the_full_one(model, batches):
    images, _ = batches[0]
    for site in model.sites:
        maps = analysis.heatmaps(model, images, site)
        assert (maps.kept <= maps.full).all()
        assert all(0 < share <= 1 for share in maps.kept_share)
        assert all(0 <= value <= 1 for value in (*maps.cosine, *maps.iou_at_half_maximum))


def test_similarity_of_empty_heatmaps():
    empty, some = torch.zeros(1, 2, 2), torch.eye(2)[None]
    assert cosine(empty, empty).item() == iou_at_half_maximum(empty, empty).item() == 1
    assert cosine(empty, some).item() == iou_at_half_maximum(some, empty).item() == 0


@pytest.mark.parametrize("measure", [analysis.activity, analysis.heatmaps])
def test_a_plain_network_is_refused(network, batches, measure):
    images, _ = batches[0]
    arguments = (batches,) if measure is analysis.activity else (images, "conv1")
    refused("ResNet has no gates; give a gated network", measure, network, *arguments)


def test_bad_input_is_told_in_one_line(network, model, batches):
    refused("activity: the loader gave no images", analysis.activity, model, [])
    refused("limit=0; give 1 image or more", analysis.activity, model, batches, limit=0)
    images, _ = batches[0]
    with pytest.raises(FtwtError, match=r"'layer2.0.con1'; did you mean layer2\.0\.conv"):
        analysis.heatmaps(model, images, "layer2.0.con1")
    refused("masses is empty", analysis.oracle_curve, network, batches, [], example=EXAMPLE)
    with pytest.raises(FtwtError, match="gives its batches once"):
        analysis.oracle_curve(network, iter(batches), [0.9], example=EXAMPLE)
    with pytest.raises(FtwtError, match=r"mass=1\.2 is outside"):
        analysis.oracle_curve(network, batches, [1.2], example=EXAMPLE)
    maps = analysis.heatmaps(model, images, "conv1")
    refused("2 images came with the heatmaps of 4", analysis.heatmap_grid, maps, images[:2])


class Outline(HTMLParser):
    """Checks that tags nest, and notes attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(html):
    parser = Outline()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_report_is_self_contained(tmp_path, model, network, batches, seen):
    images, _ = batches[0]
    findings = analysis.Findings(
        activity=seen,
        dense_accuracy=0.5,
        curve=analysis.oracle_curve(network, batches, [0.8, 1.0], example=EXAMPLE),
        trained=seen,
        maps=analysis.heatmaps(model, images[:2], "layer2.0.conv1"),
        map_pixels=images[:2].sigmoid(),
        pixels=torch.cat([images for images, _ in batches]).sigmoid(),
        dynamism=analysis.dynamism(model, batches),
    )
    made = {"command": "ftwt demo <&>", "seed": "0"}
    path = analysis.write_report(tmp_path, findings, title="<b>T", intro="a\n\nb", made=made)
    html = path.read_text()
    parser = outline(html)
    assert "<b>T" in parser.text
    assert "ftwt demo <&>" in parser.text
    assert findings.dynamism.verdict in parser.text
    sources = [value for name, value in parser.attributes if name in ("src", "href")]
    assert len(sources) == 5
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?:|<script|<link|url\(|@import", html)
    names = ("tradeoff", "activity_by_layer", "macs_by_layer", "heatmaps", "cost_by_image")
    files = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert {file.name for file in tmp_path.iterdir()} == files | {"index.html"}


def test_page_escapes_everything():
    evil = '"><script>alert(1)</script>'
    picture = page.Picture(b"", "image/png", 10, evil, evil)
    table = tables.of_text((evil,), ((evil,),), evil)
    section = page.Section(evil, evil, (table, picture))
    html = page.render_page(page.Page(evil, evil, (section,), ((evil, evil),)))
    assert "<script" not in html
    assert dict(outline(html).attributes)["alt"] == evil


def test_page_refuses_folders(tmp_path):
    refused("is a folder", page.write_html, tmp_path, page.Page("t", "i", ()))


def test_cells_of_numbers_and_of_few_characters_stay_on_one_line():
    long = "words that may be broken"
    table = tables.of_text(("how", "name", "share"), (("r = 0.85", long, "1,000.5"),))
    html = page.render_page(page.Page("t", "i", (page.Section("s", "", (table,)),)))
    cells = f'<td class="short">r = 0.85</td><td>{long}</td><td class="number">1,000.5</td>'
    assert cells in html


@given(st.floats(-50, 50), st.floats(0, 50), st.floats(0, 50))
def test_small_changes_are_drawn_small(low, span, least):
    first, last = analysis.drawing.widened((low, low + span), least)
    assert first <= low
    assert last >= low + span
    assert last - first == pytest.approx(max(span, least), abs=1e-9)
    assert (first + last) / 2 == pytest.approx(low + span / 2, abs=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5, unique=True))
def test_labels_of_points_do_not_cover_each_other(points):
    drawing = analysis.drawing
    with drawing.style():
        figure = drawing.new_figure(drawing.WIDTH_INCHES, 3)
        axes = figure.add_subplot(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
        drawing.label_points(axes, points, [f"{place} %" for place in range(len(points))])
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(points)
    assert not any(one.overlaps(two) for one, two in combinations(boxes, 2))


def test_drawing_leaves_matplotlib_as_it_was(seen):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    first, again = (analysis.drawing.to_svg(analysis.activity_by_layer(seen)) for _ in range(2))
    assert first == again
    assert dict(mpl.rcParams) == before


def test_without_matplotlib_a_plot_names_the_extra(seen, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused(r"pip install ftwt\[plots\]", analysis.macs_by_layer, seen)


def test_import_loads_no_matplotlib():
    code = "import sys; from ftwt import analysis; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
