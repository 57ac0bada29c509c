"""`ftwt export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import ImageSize, Json, Own, grouped, import_own
from .output import report


class Kind(StrEnum):
    """Formats, which `ftwt.export` lists too; named here, so that --help need not wait for it."""

    onnx = "onnx"
    torch = "torch"
    native = "native"


@grouped
def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or a saved model.")],
    kind: Annotated[
        Kind,
        typer.Option(
            "--format",
            help="onnx: a file for engines. torch: a program of torch.export (.pt2). native: a "
            "folder with C sources that skip, without Python.",
        ),
    ] = Kind.onnx,
    out: Annotated[
        Path | None, typer.Option(help="New file or folder; beside the run if left out.")
    ] = None,
    reduction: Annotated[
        float | None,
        typer.Option(
            help="Share of MACs to save, of a calibrated model; as it was saved by default."
        ),
    ] = None,
    round_to: Annotated[
        int, typer.Option(help="Of fixed masks keep filters up to multiples of this.", min=1)
    ] = 1,
    image_size: ImageSize = None,
    network: Own = None,
    as_json: Json = False,
) -> None:
    """Write a trained network for other programs, and check that it answers the same there."""
    import torch

    import ftwt

    from .progress import working

    import_own(network)
    example = None if image_size is None else torch.zeros(1, 3, image_size, image_size)
    with working("writing, reading again and comparing"):
        found = ftwt.export(
            run, out, format=kind.value, reduction=reduction, round_to=round_to, example=example
        )
    value = {
        "path": str(found.path),
        "format": found.format,
        "files": dict(found.files),
        "check": found.check,
    }
    size = sum(found.files.values())
    text = f"{found.path}: {size / 1e6:.2f} MB; {found.check}"
    report(value, text, as_json=as_json)
