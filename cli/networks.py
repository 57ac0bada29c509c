"""`ftwt macs` and `ftwt sites`."""

from typing import Annotated

import typer

from .output import Json, report

Network = Annotated[str, typer.Argument(help="For example cifar10-resnet56, torchvision:resnet50.")]


def macs(network: Network, as_json: Json = False) -> None:
    """Cost of a plain network and of the paper's gates on it, layer by layer."""
    from ftwt import macs as counting
    from ftwt import networks
    from ftwt.attach import attach
    from ftwt.model import Pruning

    plain = networks.build(network)
    model = attach(plain, Pruning(), example=networks.example(network))
    table = counting.table(model)
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    value = {
        "network": network,
        "input": list(networks.example(network).shape[1:]),
        "dense_macs": model.dense_macs,
        "gate_macs": model.gate_macs,
        "parameters": parameters,
        "layers": [row._asdict() for row in table.rows],
    }
    report(value, table.rich(f"{network}, {parameters:,} parameters"), as_json=as_json)


def sites(network: Network, as_json: Json = False) -> None:
    """Sites of a network, and why other convolutions are left out."""
    from rich.table import Table

    from ftwt import networks
    from ftwt.attach import attach
    from ftwt.model import Pruning

    model = attach(networks.build(network), Pruning(), example=networks.example(network))
    rows = [
        {"name": one.name, "site": one.left_out is None, "left_out": one.left_out}
        for one in model.anatomy.candidates
    ]
    table = Table("convolution", "site", "why not")
    for one in model.anatomy.candidates:
        table.add_row(one.name, "no" if one.left_out else "yes", one.left_out or "")
    report({"network": network, "sites": rows}, table, as_json=as_json)
