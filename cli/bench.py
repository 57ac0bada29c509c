"""`ftwt bench`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json, Own, Threads, import_own
from .output import percent, report, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from ftwt.gated.escalation.model import Escalating
    from ftwt.gated.model import Gated


class Gates(StrEnum):
    """Which gates an untrained network gets."""

    paper = "paper"
    light = "light"


# Images that untrained gates are set on: as many as small images allow, of large ones fewer.
_SMALL, _LARGE = 256, 64
# Quartiles that are further apart than this, of the median, say little.
_WIDE = 0.2
# Different images that batches of one go through.
_SINGLES = 32
# The same where each takes its own time, of which the 99th percentile is reported.
_ESCALATING = 100


def bench(
    network: Annotated[
        str, typer.Argument(help="A run folder, a saved model, or a network: cifar10-resnet56.")
    ],
    batch: Annotated[int, typer.Option(min=1, help="Images a call.")] = 1,
    threads: Threads = None,
    fraction: Annotated[
        float | None, typer.Option(help="Untrained: share of filters that run; 0.5 by default.")
    ] = None,
    reduction: Annotated[
        float | None, typer.Option(help="Untrained: exact MAC reduction to aim at, instead.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side in pixels; the network's own by default.")
    ] = None,
    gates: Annotated[
        Gates, typer.Option(help="Untrained: the paper's gates, or low-rank ones where these cost.")
    ] = Gates.paper,
    data: Annotated[
        str | None, typer.Option(help="Images of a data set, instead of drawn ones.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are over these.")] = 15,
    layers: Annotated[bool, typer.Option("--layers", help="Show each step's time too.")] = False,
    own: Own = None,
    as_json: Json = False,
) -> None:
    """Milliseconds: dense, masked, skipping, and cut to the same activity, in one run."""
    import torch

    from ftwt.gated.escalation.model import Escalating
    from ftwt.gated.model import Gated
    from ftwt.reports.timing import bench as run
    from ftwt.reports.timing import randomize_gates, randomize_to_reduction

    if threads is not None:
        torch.set_num_threads(threads)
    if fraction is not None and reduction is not None:
        raise typer.BadParameter("give --fraction or --reduction, not both")
    torch.manual_seed(0)
    trained = Path(network).exists()
    if trained and (fraction is not None or reduction is not None or gates is not Gates.paper):
        raise typer.BadParameter("--fraction, --reduction and --gates are for untrained networks")
    import_own(own)
    inside = ""
    if trained:
        inside, plain, model = _load(Path(network))
    else:
        plain, model = _untrained(network, image_size, gates)
    last = model.gated[-1] if isinstance(model, Escalating) else model
    shape = last.anatomy.expected[0]
    size = shape[-1]
    count = max(batch, _SINGLES if isinstance(model, Gated) else _ESCALATING)
    spare = 0 if trained else (_SMALL if size <= 64 else _LARGE)
    images = _images(data, shape, spare + count)
    calibration, images = images[:spare], images[spare:]
    if not trained:
        assert isinstance(model, Gated)
        if reduction is not None:
            fraction = randomize_to_reduction(model, calibration, reduction)
        else:
            fraction = 0.5 if fraction is None else fraction
            randomize_gates(model, calibration, fraction)
    tell(f"compiling and timing each form of the network, {repeats} rounds or more")
    value = run(plain, model, images, batch=batch, rounds=repeats)
    value = {
        "network": network, "inside": inside or None, "image_size": size, "fraction": fraction,
        **value,
    }  # fmt: skip
    report(value, _text(value, layers=layers), as_json=as_json)


def _load(path: Path) -> "tuple[str, nn.Module, Gated | Escalating]":
    """Which part of a run's network has the gates, and that part plain and gated."""
    from ftwt import networks
    from ftwt.errors import FtwtError
    from ftwt.gated.escalation.model import Escalating
    from ftwt.gated.within import held_in, part_of
    from ftwt.io import storage

    model, card = storage.load(path)
    name = card.networks[-1] if card.networks else card.network
    held = ("", model) if isinstance(model, Escalating) else held_in(model)
    if held is None or name is None:
        raise FtwtError(
            f"bench: {path} holds no gated network; give a run that was trained gated or escalates"
        )
    inside, gated = held
    return inside, part_of(networks.build(name, num_classes=card.num_classes), inside), gated


def _untrained(name: str, size: int | None, chosen: Gates) -> "tuple[nn.Module, Gated]":
    from ftwt import gates, networks
    from ftwt.gated.attach import attach
    from ftwt.gated.pruning import Pruning
    from ftwt.io.user_code import known_network

    name = known_network(name)
    plain = networks.build(name)
    example = networks.example(name, size=size)
    gate: gates.Gate = gates.PooledLinear()
    if chosen is Gates.light:
        gate = gates.ByCost(gates.PooledLinear(), gates.Bottleneck(8), share=0.02)
    return plain, attach(plain, Pruning(gate), example=example)


def _images(data: str | None, shape: "Sequence[int]", count: int) -> "Tensor":
    """Normalised images of a shape (C, H, W), drawn or of a data set."""
    import torch

    from ftwt import data as datasets
    from ftwt.data import shapes
    from ftwt.errors import FtwtError

    channels, height, width = shape
    if data is None:
        drawn = shapes.render_shapes(count, 0, size=max(height, width)).pixels
        pixels = drawn[:, torch.arange(channels) % 3, :height, :width].float() / 255
        std, mean = torch.std_mean(pixels, (0, 2, 3), keepdim=True)
        return (pixels - mean) / std
    if channels != 3 or height != width:
        raise FtwtError(
            f"bench: the network takes images of shape {tuple(shape)}, which no data set has by "
            "name; leave out --data, images are drawn then"
        )
    chosen = datasets.load(data, size=width, only="test")
    if len(chosen.test) < count:
        raise FtwtError(f"bench: {data} has {len(chosen.test)} test images, {count} are needed")
    batches = datasets.serve(chosen.test, count, mean=chosen.mean, std=chosen.std)
    return next(iter(batches))[0]


def _text(value: dict[str, Any], *, layers: bool) -> Any:
    from rich.console import Group

    from ftwt.tables import of_text

    untrained = "" if value["fraction"] is None else ", untrained gates set to save MACs"
    name = value["network"] + (f", its {value['inside']} alone" if value["inside"] else "")
    title = f"{name}{untrained}, {value['image_size']} pixels, batch {value['batch']}"
    waits = "latency" in value["rows"][0]
    heads = ["", "ms", "quartiles", "speed-up over the best dense"]
    heads += ["mean", "99 % within"] if waits else []
    rows = []
    for row in value["rows"]:
        quartiles = f"{row['low']:.2f} - {row['high']:.2f}"
        over = [f"{row['latency'][name]:.2f}" for name in ("mean", "p99")] if waits else []
        rows.append((row["name"], f"{row['ms']:.2f}", quartiles, f"{row['speedup']:.2f}", *over))
    reasons: dict[str, list[str]] = {}
    for name, why in value["missing"].items():
        reasons.setdefault(why, []).append(name)
    notes = [f"no row for {'; '.join(names)}: {why}" for why, names in reasons.items()]
    notes += [
        f"exact MACs{untrained}, gates counted: {value['macs']:,.0f} of {value['dense_macs']:,}, "
        f"ratio {value['mac_ratio']:.2f}, reduction {percent(value['reduction_exact'])}"
    ]
    if value["share_of_bound"] is not None:
        notes += [
            f"{value['share_of_bound_of']}: {value['share_of_bound']:.2f} of the bound; "
            f"{value['over_best_bound']:.2f} of {value['best_bound']}"
        ]
    if value["engine_alone"] is not None:
        notes += [
            f"the kernels alone, every filter on: {value['engine_alone']:.2f} of "
            f"{value['best_dense']}; skipping makes that {value['skipping_adds']:.2f} times as fast"
        ]
    if value["disturbed"]:
        notes += [
            f"disturbed: in {value['disturbed']} of {value['rounds']} rounds other programs used "
            f"the processors too ({percent(value['others'])} on average); run again when alone"
        ]
    wide = [row["name"] for row in value["rows"] if row["spread"] > _WIDE]
    if wide:
        notes += [f"quartiles are over {percent(_WIDE)} apart: {'; '.join(wide)}"]
    machine = value["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    notes += [f"{machine['cpu']}, {machine['threads']} threads, {versions}"]
    return Group(of_text(heads, rows).rich(title), *notes, *([_layers(value)] if layers else []))


def _layers(value: dict[str, Any]) -> Any:
    from ftwt.tables import Column, Table, count, fixed

    title = "skip, planned: each step when it was measured"
    if value["peak_gmacs"] is not None:
        title += f"; peak {value['peak_gmacs']:.0f} GMAC/s"
    columns = (
        Column("step", "step"),
        Column("kind", "kind"),
        Column("backend", "back end"),
        Column("ms", "ms", fixed(3)),
        Column("macs", "MACs of an image", count),
        Column("gmacs", "GMAC/s", fixed(1)),
        Column("share_of_peak", "of the peak", percent),
    )
    return Table(columns, value["layers"]).rich(title)
