"""`ftwt estimate`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Images, Json, Machine, Own, grouped, import_own, run_or_network
from .output import percent, report, tell

if TYPE_CHECKING:
    from ftwt.budget import Estimate
    from ftwt.targets import Target


@grouped
def estimate(
    network: Annotated[
        str, typer.Argument(help="For example cifar10-resnet56, or a run folder or saved model.")
    ],
    images: Images,
    machine: Machine,
    mass: Annotated[
        str, typer.Option(help="Heatmap masses, rising.")
    ] = "0.5,0.6,0.7,0.8,0.85,0.9,0.95,0.98,1",
    fraction: Annotated[str | None, typer.Option(help="Top-k fractions too, rising.")] = None,
    min_channels: Annotated[int, typer.Option(help="Filters that every site keeps.", min=1)] = 1,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights: a run folder, a safetensors file, a state dict, or torchvision."
        ),
    ] = None,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential", help="Apply the masks too, a pass each: accuracy, and what differs."
        ),
    ] = False,
    own: Own = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for estimate.json, estimate.png and .svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What perfect gates would save, for many masses from one pass over validation images."""
    from ftwt import budget, targets
    from ftwt.budget import named

    from .numbers import numbers
    from .progress import working

    machine.prepare()
    import_own(own)
    rules: list[Target] = [
        targets.HeatmapMass(one, min_channels=min_channels) for one in numbers(mass, "--mass")
    ]
    if fraction is not None:
        rules += [targets.TopK(one) for one in numbers(fraction, "--fraction")]
    budget.check_distinct(rules, "estimate")
    dataset = replace(images, limit=None).load_training()
    random = init is None and not Path(network).exists()
    network = run_or_network(network)
    model, dataset = named.load_gated(network, dataset, init=init, device=machine.device)
    held = named.validation(dataset, limit=images.limit)
    if random:
        tell("random weights: give --init for what a trained network would save")
    with working("looking at validation images"):
        found = budget.estimate(model, held, rules, sequential=sequential)
    value = {"network": network, "data": images.data, **found.to_json()}
    if out is not None:
        from ftwt.reports.budget_plot import write_estimate

        write_estimate(out, found, value, title=network)
    report(value, _table(network, found), as_json=as_json)


def _table(network: str, found: "Estimate") -> Any:
    from ftwt.tables import of_text

    title = (
        f"{network}, {found.images} images, plain network {percent(found.dense_accuracy)} right; "
        "MAC reduction of perfect gates, mean ± deviation over images"
    )
    sequential = any(row.applied for row in found.rows)
    heads = ["keeps", "exact", "with gates", "paper's convention"]
    heads += ["exact, masks applied", "accuracy"] if sequential else []
    rows = []
    for row in found.rows:
        cells = [
            budget_name(row.rule),
            f"{percent(row.reduction_exact)} ± {100 * row.std_macs / row.dense_macs:.2f}",
            percent(row.reduction_with_gates),
            percent(row.reduction_paper),
        ]
        if row.applied:
            cells += [percent(row.applied.reduction_exact), percent(row.applied.accuracy)]
        rows.append(cells)
    return of_text(heads, rows).rich(title)


def budget_name(rule: "Target") -> str:
    """A rule in a few letters."""
    from ftwt.targets.interface import amount_of

    mass, fraction = amount_of(rule, "mass"), amount_of(rule, "fraction")
    if mass is not None:
        return f"mass {mass:g}"
    return repr(rule) if fraction is None else f"top {100 * fraction:g} %"
