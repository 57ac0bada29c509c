"""`ftwt recipes`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json
from .output import report

if TYPE_CHECKING:
    from ftwt.training import Recipe

Name = Annotated[str | None, typer.Argument(help="A recipe to show; all are listed if left out.")]


def recipes(
    name: Name = None,
    source: Annotated[
        bool, typer.Option("--source", help="Print it as a script to copy and edit.")
    ] = False,
    dense: Annotated[bool, typer.Option("--dense", help="The dense training's.")] = False,
    as_json: Json = False,
) -> None:
    """List the recipes, or show one."""
    if name is None:
        if source or dense:
            raise typer.BadParameter("--source and --dense need the NAME of a recipe")
        _list(as_json=as_json)
    elif source:
        from ftwt.training.recipes import source as source_of

        text = source_of(name, dense=dense)
        if as_json:
            report({"name": name, "source": text}, "", as_json=True)
        else:
            # As it is: to a file, or to a terminal whose width must not break lines.
            typer.echo(text, nl=False)
    else:
        _show(name, dense=dense, as_json=as_json)


def _list(*, as_json: bool) -> None:
    from rich.console import Group

    from ftwt.tables import of_text
    from ftwt.training import CATALOGUE

    rows = [
        {
            "name": name,
            "network": entry.network,
            "about": entry.variant,
            "published_mass": list(entry.published) if entry.published else None,
        }
        for name, entry in CATALOGUE.items()
    ]
    # One row for all networks that are trained alike; the two CIFARs always are.
    groups: dict[tuple[tuple[str, ...], str, str], dict[str, None]] = {}
    for name, entry in CATALOGUE.items():
        data, _, rest = name.partition("-")
        network = entry.network.partition("-")[2]
        variant = rest.removeprefix(network)
        cifar = data.startswith("cifar")
        kinds: tuple[str, ...] = ("cifar10", "cifar100") if cifar else (data,)
        groups.setdefault((kinds, variant, entry.variant), {})[network] = None
    kinds_of_training = []
    for (sources, variant, about), networks in groups.items():
        name = "NETWORK" if len(networks) > 1 else next(iter(networks))
        names = "\n".join(f"{one}-{name}{variant}" for one in sources)
        kinds_of_training.append((names, " ".join(networks), about))
    table = of_text(("recipe", "networks", "dynamic training"), kinds_of_training).rich(lines=True)
    table.columns[0].no_wrap = True  # names to be typed
    masses = [
        f"  {name}: {entry.published[0]} decoupled, {entry.published[1]} joint"
        for name, entry in CATALOGUE.items()
        if entry.published and name == entry.network
    ]
    notes = [
        "Masses of published results, which these and their -finetune take unless --mass is given:",
        *masses,
        "For example: ftwt recipes cifar10-resnet56; with --source: as a script, ready to edit.",
        "The networks also train without gates: ftwt train NAME --dense.",
    ]
    report({"recipes": rows}, Group(table, *notes), as_json=as_json)


def _show(name: str, *, dense: bool, as_json: bool) -> None:
    from ftwt.io import specs
    from ftwt.tables import of_text
    from ftwt.training import Overrides, recipe

    made = recipe(name, Overrides(), dense=dense)
    title = f"{name}, {'dense' if dense else 'dynamic'}"
    table = of_text(("", "value"), _facts(made)).rich(title, lines=True)
    report({"name": name, "recipe": specs.to_json(made)}, table, as_json=as_json)


def _facts(made: "Recipe") -> list[tuple[str, str]]:
    settings = made.settings
    phases = [f"{one.epochs} epochs {one.name} (trains {one.train})" for one in settings.phases]
    facts: list[tuple[str, Any]] = [
        ("network", made.network),
        ("phases", ", then ".join(phases)),
        ("images of a step", made.batch_size),
        ("augmentation", made.augment),
        ("losses", " + ".join(f"{weight:g} {loss}" for weight, loss in made.objective.terms)),
        ("backbone", settings.backbone),
    ]
    if made.pruning is not None:
        facts += [("gates", settings.gates), ("gate", made.pruning.gate)]
        facts += [("target", made.pruning.target), ("targets from", made.pruning.target_source)]
        facts += [("coupling", made.pruning.coupling), ("estimator", made.pruning.estimator)]
    if made.escalation is not None:
        facts.append(("escalation", made.escalation))
    facts += [("precision", settings.amp or "float32"), ("seed", settings.seed)]
    return [(label, str(value)) for label, value in facts]
