"""`ftwt advise`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Images, Json, Own, Threads, grouped, import_own, run_or_network, use_threads
from .output import percent, report, tell

if TYPE_CHECKING:
    from ftwt.reports.advice import Advice

# Enough to tell fractions of a few percent, few enough to wait for.
_IMAGES = 500


@grouped
def advise(
    network: Annotated[
        str, typer.Argument(help="For example cifar10-resnet56, or a run folder or saved model.")
    ],
    images: Images,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights: a run folder, a safetensors file, a state dict, or torchvision."
        ),
    ] = None,
    reduction: Annotated[
        float, typer.Option(help="Share of MACs to save, all that has to run counted.")
    ] = 0.5,
    threads: Threads = None,
    own: Own = None,
    as_json: Json = False,
) -> None:
    """What your network would gain by pruning, gates and budgets, before any training."""
    from dataclasses import replace

    from ftwt.budget import named
    from ftwt.reports.advice import advise as look

    use_threads(threads)
    import_own(own)
    network = run_or_network(network)
    dataset = replace(images, limit=None).load_training()
    trained = init is not None or Path(network).exists()
    model, dataset = named.load_gated(network, dataset, init=init, device="cpu")
    held = named.validation(dataset, limit=images.limit or _IMAGES)
    found = look(model, held, reduction=reduction, say=tell)
    if not trained:
        tell("random weights: give --init for what a trained network would gain")
    follow = _next(network, images, init, reduction, trained=trained)
    value = {"network": network, "data": images.data, "trained": trained}
    value |= {**found.to_json(), "next": [str(part) for part in follow]}
    report(value, _tables(network, found, trained=trained), as_json=as_json, follow=follow)


def _next(
    network: str, images: Images, init: str | None, reduction: float, *, trained: bool
) -> tuple[object, ...]:
    """The command to run next: train the network, or make it cheaper, or measure more closely."""
    from ftwt.training import CATALOGUE

    name, start = network, init
    if Path(network).exists():
        name, start = _name_of(Path(network)), network
    if ":" in name:
        wanted = ("--dense",) if not trained else ("--init", start, "--reduction", reduction)
        return ("ftwt", "train", name, *images.named(), *wanted, "--out", "runs/new")
    if f"{name}-best" not in CATALOGUE:
        size = () if images.image_size is None else ("--image-size", images.image_size)
        untrained = () if start == network else ("--reduction", reduction, *size)
        return ("ftwt", "bench", network, *untrained)
    if not trained:
        return ("ftwt", "train", f"{name}-short", *images.named(), "--dense", "--out", "runs/dense")
    budget = ("--reduction", reduction, "--out", "runs/cheaper")
    return ("ftwt", "train", f"{name}-best", *images.named(), "--init", start, *budget)


def _name_of(path: Path) -> str:
    from ftwt.io import storage

    return storage.load(path)[1].network or ""


def _tables(network: str, found: "Advice", *, trained: bool) -> Any:
    from rich.console import Group

    from ftwt.tables import Column, Table, fixed

    weights = "" if trained else ", random weights"
    title = f"{network}{weights}, {found.images} images, {found.dense_macs:,} MACs"
    ways = (
        Column("name", "way"),
        Column("reduction_exact", "MAC reduction, exact", percent),
        Column("accuracy", "accuracy before training", percent),
        Column("ms", "ms, one image", fixed(2)),
        Column("by", "run by"),
        Column("note", ""),
    )
    settings = (
        Column("mass", "mass", "{:g}".format),
        Column("reduction_exact", "without the gates' cost", percent),
        Column("reduction_with_gates", "with it", percent),
    )
    return Group(
        Table(ways, found.ways).rich(title),
        Table(settings, found.settings).rich("What perfect gates would save"),
        *found.notes,
    )
