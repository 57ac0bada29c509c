"""`ftwt macs` and `ftwt sites`."""

from typing import Annotated, Any

import typer

from .options import Json
from .output import report

Network = Annotated[
    str,
    typer.Argument(help="For example cifar10-resnet56, torchvision:resnet50, my_module:factory."),
]

Size = Annotated[
    int | None,
    typer.Option(
        "--image-size", "--size", min=1, help="Side in pixels; the network's own by default."
    ),
]


def macs(network: Network, size: Size = None, as_json: Json = False) -> None:
    """Cost of a plain network and of the paper's gates on it, layer by layer."""
    from ftwt import macs as counting
    from ftwt import networks
    from ftwt.gated.attach import attach
    from ftwt.gated.pruning import Pruning
    from ftwt.io.user_code import known_network

    network = known_network(network)
    plain = networks.build(network)
    example = networks.example(network, size=size)
    model = attach(plain, Pruning(), example=example)
    table = counting.table(model)
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    value = {
        "network": network,
        "input": list(example.shape[1:]),
        "dense_macs": model.dense_macs,
        "gate_macs": model.gate_macs,
        "parameters": parameters,
        "layers": [row._asdict() for row in table.rows],
    }
    report(value, table.rich(f"{network}, {parameters:,} parameters"), as_json=as_json)


def sites(network: Network, size: Size = None, as_json: Json = False) -> None:
    """Sites of a network, and why other convolutions are left out."""
    from rich.console import Group

    from ftwt import networks
    from ftwt.gated.attach import attach
    from ftwt.gated.pruning import Pruning
    from ftwt.io.user_code import known_network
    from ftwt.tables import of_text

    network = known_network(network)
    example = networks.example(network, size=size)
    model = attach(networks.build(network), Pruning(), example=example)
    rows: list[dict[str, Any]] = [
        {"name": one.name, "site": one.left_out is None, "left_out": one.left_out}
        for one in model.anatomy.candidates
    ]
    table = of_text(
        ("convolution", "site", "why not"),
        [(row["name"], "yes" if row["site"] else "no", row["left_out"] or "") for row in rows],
    )
    found = model.explain()
    value = {
        "network": network,
        "input": list(example.shape[1:]),
        "sites": rows,
        "unknown": [{"operation": name, "times": times} for name, times in found.unknown],
        "frozen": list(found.frozen),
        "uncounted": list(found.uncounted),
        "divisions": list(found.divisions),
    }
    report(value, Group(table.rich(), *found.notes), as_json=as_json)
